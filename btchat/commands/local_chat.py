"""A model in this process: what `btchat ask`, `frames` and `tokens` do."""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from time import monotonic
from typing import Any

import torch
from PIL import Image
from safetensors.torch import save

from bt_model.assembly.load import even_above
from bt_model.assembly.memory import shown
from bt_model.assembly.towers import vision_config
from bt_model.chat import VideoChat, encode_together
from bt_model.checkpoints.json_files import read_config
from bt_model.checkpoints.weights import open_checkpoint
from bt_model.errors import BtchatError
from bt_model.generation.engine import BatchEngine
from bt_model.types import FrameSize, GenerateOptions, ModelCard, Sampling, Turn, VideoTokens
from bt_model.video.decode import decode, decode_sizes
from btchat.commands.chosen_model import choose
from btchat.commands.frame_listing import FrameListing, warn
from btchat.commands.options import FormatOptions, ModelOptions
from server.features.receipt import frame_facts
from server.worker.loader import CacheSettings, DiskLoader

LOCAL_KEY = b"local"
NUM_ROWS = 1  # one question at a time


class LocalChats:
    """Loaded models for one question at a time; what they take goes to stderr before they are loaded.

    Raises:
        BtchatError: no such model or adapter, weights that cannot be used, or not enough memory.
    """

    def __init__(self, names: Sequence[str], model: ModelOptions, formats: FormatOptions) -> None:
        chosen = [choose(name, model.weights_dir) for name in names]
        loader = DiskLoader(
            list(dict.fromkeys(str(each.path) for each in chosen)),
            model.weights_dir,
            device=model.device,
            dtype=formats.dtype,
            quantise=formats.quantise,
            cache=CacheSettings(max_batch=NUM_ROWS),
        )
        ids = dict.fromkeys(each.id for each in chosen)
        bases = dict.fromkeys(loader.base_of(name) or name for name in ids)
        _require_memory(loader, list({**bases, **ids}))
        loaded = {name: loader.load(name) for name in bases}
        for name in ids:
            if base := loader.base_of(name):
                loaded[name] = loader.load_beside(name, loaded[base])
        self._chats = [loaded[name] for name in ids]

    def see(self, video: Path, sampling: Sampling) -> "list[EncodedFile]":
        """Decode once, and encode for each model; those on one tower share one pass through it.

        Raises:
            VideoError: a file that cannot be used.
            InvalidValueError: a sampling out of range.
        """
        begin, cards = monotonic(), [chat.card for chat in self._chats]
        fitting = replace(sampling, even_above=min(card.even_above for card in cards))
        sizes = list(dict.fromkeys(card.frame_size for card in cards))
        frames = dict(zip(sizes, decode_sizes(video, fitting, sizes, cards[0].default_frames), strict=True))
        decoded = monotonic()
        facts = frame_facts(frames[sizes[0]], fitting)
        warn(facts["warnings"])
        tokens: dict[str, torch.Tensor] = {}
        for size in sizes:
            group = [chat for chat in self._chats if chat.card.frame_size == size]
            made = encode_together(group, torch.from_numpy(frames[size].pixels)[None])
            tokens |= {chat.card.id: each[0] for chat, each in zip(group, made, strict=True)}
        seconds = {"decode": decoded - begin, "encode": monotonic() - decoded}
        shared = {"video": str(video), **facts, "seconds": seconds}
        return [EncodedFile(chat, tokens[chat.card.id], shared | _known(chat.card)) for chat in self._chats]


@dataclass(frozen=True, slots=True)
class EncodedFile:
    """A video's tokens (K, D) of one model, and the receipt of how they were made, as a server's."""

    chat: VideoChat
    tokens: torch.Tensor
    receipt: dict[str, Any]

    def ask(self, question: str, options: GenerateOptions) -> Iterator[str]:
        """Stream the answer. Raises InvalidValueError: options out of range."""
        engine = BatchEngine(self.chat.backend.lm, max_batch=NUM_ROWS)
        engine.start()
        try:
            videos = [VideoTokens(LOCAL_KEY, self.tokens)]
            yield from self.chat.answer(engine, [Turn("user", question)], videos, options)
        finally:
            engine.stop()

    def write(self, output: Path) -> str:
        """Write the tokens as safetensors; returns a line of text about the file."""
        tokens, fingerprint = self.tokens.cpu().contiguous(), self.chat.card.fingerprint
        part = output.with_name(f".{output.name}.part")
        part.write_bytes(save({"tokens": tokens}, metadata={"fingerprint": fingerprint}))
        part.replace(output)
        shape = " x ".join(map(str, tokens.shape))
        return f"{output}: tokens {shape} {tokens.dtype}, weights {fingerprint[:12]}"


def _require_memory(loader: DiskLoader, names: Sequence[str]) -> None:
    """Raises BtchatError: models that together need more than is free."""
    total, free = 0, loader.free_bytes()
    for name in names:
        needed = loader.estimate(name)
        sys.stderr.write(f"loading {name}: {needed}\n")
        total += needed.total
    if total > free:
        text = f"{', '.join(names)} needs {shown(total)}; {shown(free)} are free on this device"
        raise BtchatError(text, code="model_memory")


def _known(card: ModelCard) -> dict[str, Any]:
    return {"model": card.id, "fingerprint": card.model_fingerprint, "notice": card.notice}


def list_frames(model: ModelOptions, video: Path, sampling: Sampling) -> FrameListing:
    """The input frames of the model, which itself is not loaded.

    Raises:
        BtchatError: no such model, or a file that cannot be used.
    """
    chosen = choose(model.name, model.weights_dir)
    path, file = chosen.path, chosen.file
    tower = path.parent / file.tower
    side = vision_config(tower, read_config(tower)).image_size
    adapter = file.adapter and open_checkpoint(path.parent / file.adapter, is_listing=True)
    fitting = replace(sampling, even_above=even_above(file, adapter or None))
    frames = decode(video, fitting, FrameSize(side, file.fit), file.default_frames)
    facts = frame_facts(frames, fitting)

    def write(number: int, target: Path) -> None:
        Image.fromarray(frames.pixels[number]).save(target, quality=90)

    return FrameListing(
        str(video),
        asdict(frames.facts),
        facts["sampling"],
        facts["warnings"],
        frames.reader,
        frames.indices,
        frames.timestamps,
        write,
    )
