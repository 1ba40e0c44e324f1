"""Uploads that are encoded before anybody asks about them."""

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Self

from bt_model.errors import BtchatError
from server.engine.client import EngineClient
from server.features.flights import VideoFeatures
from server.metrics import AheadOutcome, Metrics
from server.uploads.sources import VideoSource
from server.uploads.token_folders import source_key

log = logging.getLogger(__name__)

MAX_WAITING = 8


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
        key = source_key(source.tenant, source.sha256)
        if not self._is_on or key in self._tasks:
            return
        if len(self._tasks) >= MAX_WAITING:
            self._metrics.encoded_ahead("dropped")
            return
        task = self._tasks[key] = asyncio.create_task(self._run(source))
        task.add_done_callback(lambda _task: self._tasks.pop(key))

    def forget(self, tenant: str, sha256: str) -> None:
        """Drop everything that was computed of a deleted video, or is about to be."""
        task = self._tasks.get(source_key(tenant, sha256))
        if task is not None:
            task.cancel()
        self._features.forget(tenant, sha256)

    async def _run(self, source: VideoSource) -> None:
        outcome: AheadOutcome = "cancelled"
        try:
            async with self._turn:
                outcome = await self._encode(source)
        except BtchatError:  # a question will be told
            outcome = "failed"
        except Exception:
            log.exception("an upload was not encoded ahead")
            outcome = "failed"
        finally:
            self._metrics.encoded_ahead(outcome)

    async def _encode(self, source: VideoSource) -> AheadOutcome:
        card = self._engine.card
        if card.id not in self._engine.loaded:  # its place is another's, who is asked
            return "dropped"
        return "encoded" if await self._features.encode_ahead(source, card) else "known"
