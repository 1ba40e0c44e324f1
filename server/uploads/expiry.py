"""Uploads end by themselves."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

from server.problems import Problem
from server.uploads.store import VideoStore

log = logging.getLogger(__name__)

_SHORTEST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0


@asynccontextmanager
async def expiring(store: VideoStore, forget: Callable[[str, str], None]) -> AsyncGenerator[None]:
    """Delete what has expired, now and then; `forget` gets owner and digest of what nobody has any more."""
    pause = min(max(store.limits.ttl_seconds / 10 or _LONGEST_PAUSE, _SHORTEST_PAUSE), _LONGEST_PAUSE)

    async def sweep() -> None:
        while True:
            try:
                for video in await store.delete_expired():
                    forget(video.tenant, video.sha256)
                    log.info("an upload expired", extra={"facts": {"video": video.id}})
            except Problem:  # the disk's, which the log has: the next time may go well
                pass
            except Exception:
                log.exception("expired uploads were not deleted")
            await asyncio.sleep(pause)

    task = asyncio.create_task(sweep())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
