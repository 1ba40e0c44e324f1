"""The last frames of one session: each is decoded and passes the trunk once; tokens for each question."""

import asyncio
import hashlib
import json
from collections import Counter, deque
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from time import monotonic
from typing import Any

from bt_model.decoding.pool import DecodePool
from bt_model.errors import (
    FeaturesMissingError,
    InvalidValueError,
)
from bt_model.types import ModelCard, Sampling, VideoFacts
from bt_model.video.sample import choose_frames, rounding_warnings
from server.decoding.futures import finished
from server.engine.live import EngineWindow
from server.features.flights import Outcome
from server.features.keys import check_frames, shown
from server.features.receipt import EncodedVideo
from server.features.steps import Report, WaitStep, ignored
from server.keys.rates import Rates
from server.live.frames import SentFrame
from server.live.picture_file import picture_file
from server.metrics import FrameOutcome, Metrics
from server.uploads.receive import VideoFile
from server.uploads.token_folders import source_key

_ONE = Sampling(num_frames=1)
_MOST_COUNTED = 1.0  # seconds of video that a frame stands for


@dataclass(frozen=True, slots=True)
class KeptFrame:
    """A frame of the window: `sent` is its number among all that came, `number` among those kept."""

    sent: int
    number: int
    seconds: float
    decode_seconds: float
    encode_seconds: float


@dataclass(frozen=True, slots=True)
class AskedWindow:
    """The frames that question number `query` is about: of the first `num_sent` of the session.

    They are all in the window, or never will be, once `settled` is done. A video that was never a file.
    """

    tenant: str
    sha256: str
    query: int
    num_sent: int
    settled: asyncio.Future[None]
    name: str = "live"

    async def learn(self, facts: VideoFacts, index: bytes, *, is_recounted: bool) -> bool:
        """There is nothing to keep."""
        del facts, index, is_recounted
        return False

    def reading(self) -> AbstractAsyncContextManager[VideoFile]:
        raise FeaturesMissingError("frames of a live session are no file")


class SessionWindow:
    """Makes tokens of what it keeps, as `VideoFeatures` does of files."""

    num_decoders = 1

    def __init__(
        self, engine: EngineWindow, decoder: DecodePool, metrics: Metrics, rates: Rates, tenant: str
    ) -> None:
        self.counts = Counter[str]()
        self._engine = engine
        self._decoder = decoder
        self._metrics = metrics
        self._rates = rates
        self._tenant = tenant
        self._kept: deque[KeptFrame] = deque()
        self._next = 0
        self._card: ModelCard | None = None
        self._keys: dict[int, bytes] = {}  # of the tokens of questions
        self._uncounted, self._since = 0.0, monotonic()

    async def open(self, model: str, max_frames: int) -> ModelCard:
        """Raises as `EngineWindow.open`."""
        self._card = await self._engine.open(model, max_frames)
        self._kept = deque(maxlen=max_frames)
        return self._card

    async def keep(self, frame: SentFrame) -> None:
        """Take a frame into the window.

        Raises:
            VideoError, InvalidValueError: it is no picture that can be used.
            DecodeQueueFullError: too many others are being decoded.
            RateLimitError: the key's seconds of video are spent.
            EngineError: the engine fails on it, or is gone.
        """
        assert self._card is not None
        self._rates.require_video(self._tenant)
        size, begin = self._card.frame_size, monotonic()
        with picture_file(frame.picture) as path:
            decoded = await finished(self._decoder.decode(path, _ONE, [size], 1, owner=self._tenant))
        with decoded:
            spent = monotonic() - begin
            seconds = await self._engine.see(self._next, decoded.memories[size], size.side)
        self._kept.append(KeptFrame(frame.number, self._next, frame.seconds, spent, seconds))
        self._next += 1
        self._spend()

    def count(self, outcome: FrameOutcome) -> None:
        """What became of a frame."""
        self.counts[outcome] += 1
        self._metrics.live_frame(outcome)

    def give_up(self) -> None:
        """Frames of which nothing became by now are dropped."""
        told = self.told()
        for _ in range(told["received"] - told["kept"] - told["dropped"] - told["failed"]):
            self.count("dropped")

    def asked(self, query: int, settled: asyncio.Future[None]) -> AskedWindow:
        """The window of a question that comes now."""
        return AskedWindow(self._tenant, self._engine.session, query, self.counts["received"], settled)

    async def prepare(
        self, source: object, sampling: Sampling, cards: Sequence[ModelCard], report: Report = ignored
    ) -> dict[str, Outcome]:
        """Tokens of the frames that a question is about.

        Raises:
            InvalidValueError: no frame has come before it, or not as many as the model takes.
            EngineError: the engine fails on them, or is gone.
        """
        assert isinstance(source, AskedWindow)
        report(WaitStep("decode"))
        await asyncio.shield(source.settled)
        report(WaitStep("encode"))
        (card,) = cards
        kept = [each for each in self._kept if each.sent < source.num_sent]
        if not kept:
            text = "no frame came before the question, or none could be used; send a video.frame before it"
            raise InvalidValueError(text, code="video_required", param="text")
        choice = choose_frames(len(kept), sampling, 1.0, card.default_frames)
        chosen = [kept[place] for place in choice.indices]
        check_frames(len(chosen), sampling, card)
        numbers = [each.number for each in chosen]
        digest = hashlib.sha256(json.dumps([source.query, numbers]).encode()).digest()
        key = self._keys[source.query] = source_key(self._tenant, source.sha256) + digest
        facts = self._facts(chosen, sampling, choice.num_wanted)
        seconds = await self._engine.encode(numbers, key, facts)
        decoded = sum(each.decode_seconds for each in chosen)
        encoded = seconds + sum(each.encode_seconds for each in chosen)
        return {card.id: EncodedVideo(key, facts, "miss", decoded, encoded)}

    def forget(self, query: int) -> None:
        """A question has its answer, or will have none."""
        if (key := self._keys.pop(query, None)) is not None:
            self._engine.forget(key)

    def close(self) -> None:
        """Give all up."""
        for query in list(self._keys):
            self.forget(query)
        self._engine.close()

    def told(self) -> dict[str, int]:
        """How many frames came, and what became of them; `left` have made room for newer ones."""
        counts = {name: self.counts[name] for name in ("received", "kept", "dropped", "failed")}
        return {**counts, "left": self._next - len(self._kept)}

    def _facts(self, chosen: Sequence[KeptFrame], sampling: Sampling, num_wanted: int) -> dict[str, Any]:
        """The part of a receipt that files have, too, and what became of all frames."""
        return {
            "frames": {
                "count": len(chosen),
                "indices": [each.sent for each in chosen],
                "timestamps": [round(each.seconds, 6) for each in chosen],
                "reader": "pillow",
            },
            "warnings": rounding_warnings(len(chosen), num_wanted),
            "sampling": shown(sampling, len(chosen)),
            "audio_ignored": bool(self.counts["audio"]),
            "live": self.told(),
        }

    def _spend(self) -> None:
        """Count the seconds that frames stand for, at most one for each."""
        now = monotonic()
        self._uncounted += min(now - self._since, _MOST_COUNTED)
        self._since = now
        if self._uncounted >= 1:
            self._rates.spend_video(self._tenant, int(self._uncounted))
            self._uncounted -= int(self._uncounted)
