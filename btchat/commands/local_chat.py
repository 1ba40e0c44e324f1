"""A model in this process: what `btchat ask`, `frames` and `tokens` do."""

import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from time import monotonic
from typing import Any

import torch
from PIL import Image
from safetensors.torch import save

from bt_model.assembly.catalog import find
from bt_model.assembly.load import even_above
from bt_model.assembly.memory import shown
from bt_model.assembly.model_file import read_model_file
from bt_model.assembly.towers import vision_config
from bt_model.checkpoints.json_files import read_config
from bt_model.checkpoints.weights import open_checkpoint
from bt_model.errors import BtchatError
from bt_model.generation.engine import BatchEngine
from bt_model.types import FrameSize, GenerateOptions, Sampling, Turn, VideoTokens
from bt_model.video.decode import decode
from btchat.commands.frame_listing import FrameListing, warn
from btchat.commands.options import FormatOptions, ModelOptions
from server.features.receipt import frame_facts
from server.worker.loader import CacheSettings, DiskLoader

LOCAL_KEY = b"local"
NUM_ROWS = 1  # one question at a time


class LocalChat:
    """A loaded model for one question at a time; what it takes goes to stderr before it is loaded.

    Raises:
        BtchatError: no such model, weights that cannot be used, or not enough memory.
    """

    def __init__(self, model: ModelOptions, formats: FormatOptions) -> None:
        loader = DiskLoader(
            [model.name],
            model.weights_dir,
            device=model.device,
            dtype=formats.dtype,
            quantise=formats.quantise,
            cache=CacheSettings(max_batch=NUM_ROWS),
        )
        (name,) = loader.ids
        needed, free = loader.estimate(name), loader.free_bytes()
        sys.stderr.write(f"loading {name}: {needed}\n")
        if needed.total > free:
            text = f"{name} needs {shown(needed.total)}; {shown(free)} are free on this device"
            raise BtchatError(text, code="model_memory")
        self._chat = loader.load(name)

    @property
    def notice(self) -> str:
        """What the model's file says about its limits."""
        return self._chat.card.notice

    def see(self, video: Path, sampling: Sampling) -> "EncodedFile":
        """Decode and encode.

        Raises:
            VideoError: a file that cannot be used.
            InvalidValueError: a sampling out of range.
        """
        card, begin = self._chat.card, monotonic()
        fitting = replace(sampling, even_above=card.even_above)
        frames = decode(video, fitting, card.frame_size, card.default_frames)
        decoded = monotonic()
        facts = frame_facts(frames, fitting)
        warn(facts["warnings"])
        tokens = self._chat.encode(torch.from_numpy(frames.pixels)[None])[0]
        seconds = {"decode": decoded - begin, "encode": monotonic() - decoded}
        known = {"model": card.id, "fingerprint": card.model_fingerprint, "notice": card.notice}
        return EncodedFile(tokens, {"video": str(video), **facts, "seconds": seconds, **known})

    def ask(self, seen: "EncodedFile", question: str, options: GenerateOptions) -> Iterator[str]:
        """Stream the answer. Raises InvalidValueError: options out of range."""
        engine = BatchEngine(self._chat.backend.lm, max_batch=NUM_ROWS)
        engine.start()
        try:
            videos = [VideoTokens(LOCAL_KEY, seen.tokens)]
            yield from self._chat.answer(engine, [Turn("user", question)], videos, options)
        finally:
            engine.stop()

    def write_tokens(self, video: Path, sampling: Sampling, output: Path) -> str:
        """Write pooled tokens (K, D) as safetensors; returns a line of text about the file."""
        tokens = self.see(video, sampling).tokens.cpu().contiguous()
        part = output.with_name(f".{output.name}.part")
        part.write_bytes(save({"tokens": tokens}, metadata={"fingerprint": self._chat.card.fingerprint}))
        part.replace(output)
        shape = " x ".join(map(str, tokens.shape))
        return f"{output}: tokens {shape} {tokens.dtype}, weights {self._chat.card.fingerprint[:12]}"


@dataclass(frozen=True, slots=True)
class EncodedFile:
    """A video's tokens (K, D), and the receipt of how they were made, in the form of a server's."""

    tokens: torch.Tensor
    receipt: dict[str, Any]


def list_frames(model: ModelOptions, video: Path, sampling: Sampling) -> FrameListing:
    """The input frames of the model, which itself is not loaded.

    Raises:
        BtchatError: no such model, or a file that cannot be used.
    """
    path = find(model.name, model.weights_dir)
    file = read_model_file(path, model.weights_dir)
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
