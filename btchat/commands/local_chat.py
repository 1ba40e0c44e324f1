"""A model in this process: what `btchat ask`, `frames` and `tokens` do."""

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

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
from bt_model.types import Frames, FrameSize, GenerateOptions, Sampling, Turn, VideoTokens
from bt_model.video.decode import decode
from bt_model.video.sample import rounding_warnings
from btchat.commands.options import FormatOptions, ModelOptions
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
            [model.model],
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

    def ask(self, video: Path, question: str, sampling: Sampling, options: GenerateOptions) -> Iterator[str]:
        """Stream the answer.

        Raises:
            VideoError: a file that cannot be used.
            InvalidValueError: sampling or options out of range.
        """
        tokens = VideoTokens(LOCAL_KEY, self._encode(video, sampling))
        engine = BatchEngine(self._chat.backend.lm, max_batch=NUM_ROWS)
        engine.start()
        try:
            yield from self._chat.answer(engine, [Turn("user", question)], [tokens], options)
        finally:
            engine.stop()

    def write_tokens(self, video: Path, sampling: Sampling, output: Path) -> str:
        """Write pooled tokens (K, D) as safetensors; returns a line of text about the file."""
        tokens = self._encode(video, sampling).cpu().contiguous()
        part = output.with_name(f".{output.name}.part")
        part.write_bytes(save({"tokens": tokens}, metadata={"fingerprint": self._chat.card.fingerprint}))
        part.replace(output)
        shape = " x ".join(map(str, tokens.shape))
        return f"{output}: tokens {shape} {tokens.dtype}, weights {self._chat.card.fingerprint[:12]}"

    def _encode(self, video: Path, sampling: Sampling) -> torch.Tensor:
        card = self._chat.card
        fitting = replace(sampling, even_above=card.even_above)
        frames = decode(video, fitting, card.frame_size, card.default_frames)
        _warn(frames)
        return self._chat.encode(torch.from_numpy(frames.pixels)[None])[0]


def show_frames(model: ModelOptions, video: Path, sampling: Sampling, output: Path | None) -> Iterator[str]:
    """A line for each input frame of the model; JPEG files too, if `output` names a folder."""
    path = find(model.model, model.weights_dir)
    file = read_model_file(path, model.weights_dir)
    tower = path.parent / file.tower
    side = vision_config(tower, read_config(tower)).image_size
    adapter = file.adapter and open_checkpoint(path.parent / file.adapter, is_listing=True)
    fitting = replace(sampling, even_above=even_above(file, adapter or None))
    frames = decode(video, fitting, FrameSize(side, file.fit), file.default_frames)
    yield f"{video}: {_facts(frames)}"
    _warn(frames)
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
    for number, (index, seconds) in enumerate(zip(frames.indices, frames.timestamps, strict=True)):
        line = f"frame {index:6d}  {seconds:9.3f} s"
        if output is not None:
            target = output / f"{number:03d}_frame{index:06d}.jpg"
            Image.fromarray(frames.pixels[number]).save(target, quality=90)
            line += f"  {target}"
        yield line


def _warn(frames: Frames) -> None:
    for warning in (*frames.facts.warnings, *rounding_warnings(frames.num_frames, frames.num_wanted)):
        sys.stderr.write(f"warning: {warning}\n")


def _facts(frames: Frames) -> str:
    facts = frames.facts
    return (
        f"{facts.width}x{facts.height} {facts.codec}, {facts.num_frames} frames at {facts.fps:g} per second, "
        f"{facts.seconds:.2f} s; the model sees {frames.num_frames} frames"
    )
