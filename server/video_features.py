"""From a video and a sampling to tokens in the engine's cache: looked up, or decoded and encoded once."""

import asyncio
import hashlib
import json
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Protocol

from bt_model.errors import InvalidValueError
from bt_model.types import ModelCard, Sampling
from server.decoding.pool import DecodedFrames, DecodePool
from server.engine.client import EngineClient
from server.metrics import Metrics
from server.uploads.catalog import StoredVideo
from server.uploads.receive import receiving
from server.uploads.store import VideoStore

Stage = Literal["lookup", "decode", "encode", "answer"]
Report = Callable[[Stage], None]

_KEYS_PER_VIDEO = 256


class VideoSource(Protocol):
    """A video that can be read when its frames are needed."""

    @property
    def name(self) -> str: ...

    @property
    def tenant(self) -> str: ...

    @property
    def sha256(self) -> str: ...

    def reading(self) -> AbstractAsyncContextManager[Path]: ...


@dataclass(frozen=True, slots=True)
class UploadedVideo:
    """An upload."""

    video: StoredVideo
    store: VideoStore

    @property
    def name(self) -> str:
        return self.video.id

    @property
    def tenant(self) -> str:
        return self.video.tenant

    @property
    def sha256(self) -> str:
        return self.video.sha256

    def reading(self) -> AbstractAsyncContextManager[Path]:
        return self.store.reading(self.video)


@dataclass(frozen=True, slots=True)
class InlineVideo:
    """A video inside the request itself; on disk only while it is decoded."""

    content: bytes
    tenant: str
    sha256: str
    folder: Path

    @property
    def name(self) -> str:
        return "inline"

    @asynccontextmanager
    async def reading(self) -> AsyncGenerator[Path]:
        async def whole() -> AsyncGenerator[bytes]:
            yield self.content

        async with receiving(whole(), self.folder) as received:
            yield received.path


@dataclass(frozen=True, slots=True)
class Encoded:
    """A video whose tokens are in the engine's cache under `key`; `facts` is the receipt kept with them."""

    key: bytes
    facts: dict[str, Any]
    cache: Literal["hit", "miss", "joined"] | None  # None without a video
    decode_seconds: float = 0.0
    encode_seconds: float = 0.0


@dataclass(slots=True)
class _Flight:
    """Work that several requests wait for; it ends when all of them have left."""

    task: asyncio.Task[Encoded]
    reports: list[Report] = field(default_factory=list[Report])


class VideoFeatures:
    """Tokens of videos in the engine's cache, and the keys that lead to them."""

    def __init__(self, engine: EngineClient, decoder: DecodePool, metrics: Metrics) -> None:
        self._engine = engine
        self._decoder = decoder
        self._metrics = metrics
        self._flights: dict[bytes, _Flight] = {}
        self._keys: dict[tuple[str, str], deque[bytes]] = {}

    async def prepare(self, source: VideoSource, sampling: Sampling, report: Report) -> Encoded:
        """Make sure that the tokens are cached; requests for the same tokens share one decode and encode.

        Raises:
            InvalidValueError: more frames than the model takes.
            VideoError: the video cannot be decoded.
            EngineError: the engine cannot encode it.
        """
        card = self._engine.card
        check_frames(sampling.num_frames or 0, sampling, card)
        report("lookup")
        key = feature_key(source, sampling, card)
        flight = self._flights.get(key)
        if flight is None:
            facts = await self._engine.lookup(key)
            if facts is not None:
                self._metrics.feature_hits.inc()
                return Encoded(key, facts, "hit")
        is_joined = key in self._flights  # perhaps begun during the lookup
        if not is_joined:
            self._metrics.feature_misses.inc()
            self._begin(key, source, sampling, card)
        encoded = await self._wait(self._flights[key], report)
        return replace(encoded, cache="joined") if is_joined else encoded

    def forget(self, tenant: str, sha256: str) -> None:
        """Drop everything computed from a deleted video."""
        keys = self._keys.pop((tenant, sha256), None)
        if keys:
            self._engine.forget(keys)

    def _begin(self, key: bytes, source: VideoSource, sampling: Sampling, card: ModelCard) -> None:
        known = self._keys.setdefault((source.tenant, source.sha256), deque(maxlen=_KEYS_PER_VIDEO))
        known.append(key)
        reports: list[Report] = []
        task = asyncio.create_task(self._make(key, source, sampling, card, reports))
        flight = self._flights[key] = _Flight(task, reports)

        def land(_task: asyncio.Task[Encoded]) -> None:
            if self._flights.get(key) is flight:
                del self._flights[key]

        task.add_done_callback(land)

    async def _wait(self, flight: _Flight, report: Report) -> Encoded:
        flight.reports.append(report)
        try:
            return await asyncio.shield(flight.task)
        finally:
            flight.reports.remove(report)
            if not flight.reports and not flight.task.done():
                self._flights = {key: other for key, other in self._flights.items() if other is not flight}
                flight.task.cancel()

    async def _make(
        self, key: bytes, source: VideoSource, sampling: Sampling, card: ModelCard, reports: list[Report]
    ) -> Encoded:
        def report(stage: Stage) -> None:
            for each in reports:
                each(stage)

        report("decode")
        async with source.reading() as path:
            frames = await self._decoder.decode(path, sampling, card.frame_size, card.default_frames)
        with frames:
            check_frames(frames.num_frames, sampling, card)
            self._observe(frames)
            facts = describe(frames, sampling)
            report("encode")
            shape = (frames.num_frames, frames.height, frames.width)
            try:
                seconds = await self._engine.encode(key, frames.fd, shape, facts)
            except InvalidValueError as error:  # a count that the model cannot take, in the model's own words
                raise InvalidValueError(error.message, param=_count_name(sampling)) from error
        self._metrics.videos_encoded.inc()
        self._metrics.encode_seconds.observe(seconds)
        return Encoded(key, facts, "miss", frames.seconds, seconds)

    def _observe(self, frames: DecodedFrames) -> None:
        self._metrics.videos_decoded.inc()
        self._metrics.decode_seconds.observe(frames.seconds)
        self._metrics.video_frames.observe(frames.num_frames)
        self._metrics.video_seconds.observe(frames.facts.seconds)


def check_frames(num_frames: int, sampling: Sampling, card: ModelCard) -> None:
    """Raise InvalidValueError for more frames than the model takes."""
    if num_frames > card.max_frames:
        name = _count_name(sampling)
        text = f"{name} asks for {num_frames} frames; {card.id} takes 1 to {card.max_frames}"
        raise InvalidValueError(text, param=name)


def _count_name(sampling: Sampling) -> str:
    return "sampling.num_frames" if sampling.fps is None else "sampling.fps"


def feature_key(source: VideoSource, sampling: Sampling, card: ModelCard) -> bytes:
    """A digest of the content, of who owns it, and of everything that is done to it."""
    canonical = replace(
        sampling,
        num_frames=sampling.num_frames if sampling.fps else sampling.num_frames or card.default_frames,
        start=sampling.start or None,
        seed=sampling.seed if sampling.strategy == "random" else 0,
    )
    numbers = [
        None if value is None else float(value) for value in (canonical.fps, canonical.start, canonical.end)
    ]
    parts = [
        source.tenant,
        source.sha256,
        [canonical.num_frames, *numbers, canonical.strategy, canonical.seed],
        card.fingerprint,
        card.pooling,
        [card.frame_size.side, card.frame_size.fit],
    ]
    return hashlib.sha256(json.dumps(parts).encode()).digest()


def describe(frames: DecodedFrames, sampling: Sampling) -> dict[str, Any]:
    """Which frames the model sees, for the receipt; times in seconds."""
    return {
        "frames": {
            "count": frames.num_frames,
            "indices": list(frames.indices),
            "timestamps": [round(seconds, 6) for seconds in frames.timestamps],
        },
        "sampling": asdict(sampling) | {"num_frames": frames.num_frames},
        "audio_ignored": frames.facts.has_audio,
    }
