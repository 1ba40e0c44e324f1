"""The decode pool on the event loop: its futures awaited; a caller that leaves ends the child at work."""

import asyncio
import logging
from collections.abc import AsyncGenerator
from concurrent.futures import Future
from contextlib import asynccontextmanager

from bt_model.decoding.decoded import Decoded
from bt_model.decoding.pool import DecodePool
from bt_model.decoding.queue import FrameCount

log = logging.getLogger(__name__)


@asynccontextmanager
async def running(pool: DecodePool) -> AsyncGenerator[DecodePool]:
    """Start a pool without holding up the event loop, and close it at the end."""
    try:
        await asyncio.to_thread(pool.start)
        if (reason := pool.report.sandbox.reason) is not None:
            log.warning("decode children are in a reduced sandbox: %s", reason)
        yield pool
    finally:
        await asyncio.to_thread(pool.close)


def on_loop(count: FrameCount) -> FrameCount:
    """The same for a thread of the pool, called on the running loop before the future has a result."""
    loop = asyncio.get_running_loop()
    return lambda num_frames, num_wanted: loop.call_soon_threadsafe(count, num_frames, num_wanted)


async def finished(future: Future[Decoded]) -> Decoded:
    """What a pool made of a file; the caller closes it. Raises as the pool's futures do."""
    try:
        return await asyncio.wrap_future(future)
    except asyncio.CancelledError:
        if not future.cancel() and future.exception() is None:  # it was done already
            future.result().close()
        raise
