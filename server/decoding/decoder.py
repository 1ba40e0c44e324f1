"""The decode pool as the event loop sees it: whoever awaits and leaves ends the child at work."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import Self

from bt_model.decoding.decoded import Decoded
from bt_model.decoding.pool import DecodePool
from bt_model.types import FrameSize, Sampling, VideoFacts


class Decoder:
    """Starts and closes a pool; its methods are the pool's, awaited, and raise the same."""

    def __init__(self, pool: DecodePool) -> None:
        self._pool = pool

    async def __aenter__(self) -> Self:
        try:
            await asyncio.to_thread(self._pool.start)
        except asyncio.CancelledError:
            await asyncio.to_thread(self._pool.close)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self._pool.close)

    async def probe(self, path: Path) -> VideoFacts:
        """Facts of a video; every packet counted, the first frame decoded."""
        return (await _awaited(self._pool.probe(path))).facts

    async def decode(
        self, path: Path, sampling: Sampling, sizes: Sequence[FrameSize], default_frames: int
    ) -> Decoded:
        """The sampled frames in every size, decoded once, as sealed memory files that the caller owns."""
        return await _awaited(self._pool.decode(path, sampling, sizes, default_frames))

    async def thumbnails(
        self, path: Path, sampling: Sampling, size: FrameSize, default_frames: int, side: int = 0
    ) -> Decoded:
        """Exactly a model's input frames, as JPEG; `side` scales them for display."""
        return await _awaited(self._pool.thumbnails(path, sampling, size, default_frames, side))


async def _awaited(future: Future[Decoded]) -> Decoded:
    try:
        return await asyncio.wrap_future(future)
    except asyncio.CancelledError:
        if not future.cancel() and future.exception() is None:  # it was done already
            future.result().close()
        raise
