"""Uploads end by themselves."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

from server.uploads.store import VideoStore

_SWEEP_SECONDS = 60.0


@asynccontextmanager
async def expiring(store: VideoStore, forget: Callable[[str, str], None]) -> AsyncGenerator[None]:
    """Delete what has expired, now and then; `forget` gets owner and digest of what nobody has any more."""

    async def sweep() -> None:
        while True:
            for video in await store.delete_expired():
                forget(video.tenant, video.sha256)
            await asyncio.sleep(_SWEEP_SECONDS)

    task = asyncio.create_task(sweep())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
