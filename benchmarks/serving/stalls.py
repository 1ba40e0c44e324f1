"""How long a running stream stands still while others' prompts and clips come: time between its tokens."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import torch

from benchmarks.serving.peers import own_engine
from bt_model.config import BTAdapterConfig, ClipVisionConfig, TemporalConfig
from bt_model.generation.engine import BatchEngine
from bt_model.generation.request import Delta, Event, GenRequest, Tokens
from bt_model.vision.build import build_encoder
from bt_model.vision.clip import ClipVisionTower
from bt_model.vision.encoder import encode_shared
from server.worker.thread import WorkThread
from server.worker.vision import NICENESS

PROMPTS = (600, 1_800, 5_300)  # tokens
_ALONE = 40  # tokens of the stream before the first prompt, and between two
_CONTEXT = 8_192
_FRAMES = 100
_TOWER = ClipVisionConfig(224, 32, 768, 12, 12, 3072, 512)  # CLIP-B/32


@dataclass(slots=True)
class _Stream:
    """Receives one answer."""

    times: list[float] = field(default_factory=list[float])

    def put(self, event: Event) -> None:
        if isinstance(event, Delta):
            self.times.append(time.monotonic())

    def wait(self, count: int) -> None:
        """Until so many more tokens have come."""
        end = len(self.times) + count
        while len(self.times) < end:
            time.sleep(0.005)

    def gaps(self, begin: float, end: float) -> list[float]:
        """Between tokens of which one came in this time."""
        pairs = zip(self.times, self.times[1:], strict=False)
        return [after - before for before, after in pairs if after > begin and before < end]


def gaps_ms(model: Path) -> dict[str, float]:
    """The stream's median gap while it is alone, and its largest while something comes."""
    comings: dict[str, Callable[[BatchEngine], None]] = {
        f"{count} tokens": lambda engine, count=count: _answer(engine, count) for count in PROMPTS
    }
    comings[f"{_FRAMES} frames"] = _encoding()
    engine, stream = own_engine(model, rows=4, context=_CONTEXT), _Stream()
    engine.start()
    engine.submit(_request("stream", 10, _CONTEXT - 100), stream.put)
    stream.wait(_ALONE)
    begin = time.monotonic()
    stream.wait(_ALONE)
    figures = {"alone, median": 1e3 * median(stream.gaps(begin, time.monotonic()))}
    for name, come in comings.items():
        begin = time.monotonic()
        come(engine)
        figures[name] = 1e3 * max(stream.gaps(begin, time.monotonic()))
        stream.wait(_ALONE)
    engine.cancel("stream")
    engine.stop()
    return figures


def _answer(engine: BatchEngine, count: int) -> None:
    for _ in engine.submit(_request(str(count), count, 2)).stream():
        pass


def _encoding() -> Callable[[BatchEngine], None]:
    """A clip through a tower with its branch, on a thread as the server's."""
    config = TemporalConfig("bt_adapter", BTAdapterConfig(max_frames=_FRAMES))
    encoder = build_encoder(config, ClipVisionTower(_TOWER).eval()).eval()
    pixels = torch.randn(1, _FRAMES, 3, _TOWER.image_size, _TOWER.image_size)

    @torch.inference_mode()
    def encode() -> None:
        encode_shared([encoder], pixels)

    async def run() -> None:
        await WorkThread("vision", NICENESS).run(encode)

    return lambda _: asyncio.run(run())


def _request(name: str, count: int, new_tokens: int) -> GenRequest:
    """Ids that differ from the first on, so that nothing is known of a prompt."""
    return GenRequest(name, (Tokens(tuple(range(count, 2 * count))),), new_tokens, frozenset())
