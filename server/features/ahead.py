"""Uploads that are encoded before anybody asks about them."""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Literal, Self

from bt_model.errors import BtchatError, PartlyDecodedError, UnknownNameError, VideoError
from bt_model.types import Sampling
from server.engine.client import EngineClient
from server.features.flights import Outcome, VideoFeatures
from server.metrics import AheadOutcome, Metrics
from server.uploads.sources import VideoSource
from server.uploads.token_folders import source_key

log = logging.getLogger(__name__)

MAX_WAITING = 8
_MAX_FAILURES = 1024  # that are remembered

Status = Literal["processing", "processed", "error"]


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether an upload is being encoded; `reason` is why it cannot be."""

    status: Status = "processed"
    reason: str | None = None


READY = Readiness()


class EncodeAhead:
    """One upload after the other, for the default model and its default sampling; a few may wait."""

    def __init__(
        self, engine: EngineClient, features: VideoFeatures, metrics: Metrics, *, is_on: bool
    ) -> None:
        self._engine = engine
        self._features = features
        self._metrics = metrics
        self._is_on = is_on
        self._turn = asyncio.Lock()
        self._tasks: dict[bytes, asyncio.Task[None]] = {}  # by the key of their source
        self._failures = OrderedDict[bytes, str]()  # of files, by the same; another decode ends so, too

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[Self]:
        """At the end nothing waits any more."""
        try:
            yield self
        finally:
            tasks = set(self._tasks.values())
            for task in tasks:
                task.cancel()
            if tasks:
                await asyncio.wait(tasks)

    def submit(self, source: VideoSource) -> None:
        """An upload was stored; nothing that happens here concerns its client."""
        if self._is_on:
            self._begin(source)

    def readiness(self, tenant: str, sha256: str) -> Readiness:
        """Of the upload with these bytes."""
        key = source_key(tenant, sha256)
        if key in self._tasks:
            return Readiness("processing")
        return Readiness("error", self._failures[key]) if key in self._failures else READY

    async def wait(self, source: VideoSource, seconds: float) -> Readiness:
        """Make an upload's tokens now, as for a question; after so many seconds it goes on by itself.

        Raises:
            UnknownNameError: the upload was deleted meanwhile.
        """
        try:
            async with asyncio.timeout(seconds):
                outcome = await self._prepared(source)
        except TimeoutError:
            self._begin(source)
            return Readiness("processing")
        except UnknownNameError:
            raise
        except BtchatError as error:
            outcome = error
        self._learn(source, outcome if isinstance(outcome, BtchatError) else None)
        return Readiness("error", outcome.message) if isinstance(outcome, BtchatError) else READY

    async def _prepared(self, source: VideoSource) -> Outcome:
        card = await self._engine.open(self._engine.models[0])
        while True:
            try:
                return (await self._features.prepare(source, Sampling(), [card]))[card.id]
            except PartlyDecodedError:  # it goes on from there
                continue

    def _begin(self, source: VideoSource) -> None:
        key = source_key(source.tenant, source.sha256)
        if key in self._tasks:
            return
        if len(self._tasks) >= MAX_WAITING:
            self._metrics.encoded_ahead("dropped")
            return
        task = self._tasks[key] = asyncio.create_task(self._run(source))
        task.add_done_callback(lambda _task: self._tasks.pop(key))

    def forget(self, tenant: str, sha256: str) -> None:
        """Drop everything that was computed of a deleted video, or is about to be."""
        self._give_up(tenant, sha256)
        self._features.forget(tenant, sha256)

    def forget_pixels(self, tenant: str, sha256: str) -> None:
        """Drop what is about to be computed of a video whose tokens are kept, and frames of it."""
        self._give_up(tenant, sha256)
        self._features.forget_pixels(tenant, sha256)

    def _give_up(self, tenant: str, sha256: str) -> None:
        key = source_key(tenant, sha256)
        self._failures.pop(key, None)
        if (task := self._tasks.get(key)) is not None:
            task.cancel()

    async def _run(self, source: VideoSource) -> None:
        outcome: AheadOutcome = "cancelled"
        try:
            async with self._turn:
                outcome = await self._encode(source)
            self._learn(source, None)
        except BtchatError as error:  # a question will be told
            self._learn(source, error)
            outcome = "failed"
        except Exception:
            log.exception("an upload was not encoded ahead")
            outcome = "failed"
        finally:
            self._metrics.encoded_ahead(outcome)

    def _learn(self, source: VideoSource, error: BtchatError | None) -> None:
        """What is wrong with a file stays so; that the server was busy, or a key had spent all, does not."""
        key = source_key(source.tenant, source.sha256)
        self._failures.pop(key, None)
        if isinstance(error, VideoError) and not isinstance(error, PartlyDecodedError):
            self._failures[key] = error.message
            if len(self._failures) > _MAX_FAILURES:
                self._failures.popitem(last=False)

    async def _encode(self, source: VideoSource) -> AheadOutcome:
        card = self._engine.card
        if card.id not in self._engine.loaded:  # its place is another's, who is asked
            return "dropped"
        return "encoded" if await self._features.encode_ahead(source, card) else "known"
