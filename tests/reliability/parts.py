"""Uploads in parts: killed while they are put together."""

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import NoReturn

from server.uploads.rows import Terms
from server.uploads.store import VideoStore
from server.uploads.usage import StoreLimits
from tests.faulty_disk import FaultyDisk
from tests.reliability.goal import Figure, Goal
from tests.reliability.stored import FACTS, IN_MEMORY, video_of

_MIB = 1024 * 1024
_PIECES = (video_of(b"first" * 300_000)[:1_000_000], b"second" * 200_000)
_WHOLE = b"".join(_PIECES)
_MAX_GROWN_BYTES = 30 * _MIB


class _DeadlyDisk(FaultyDisk):
    """Kills its process in the place of a call."""

    def step(self, name: str) -> None:
        self.calls.append(name)
        if len(self.calls) == self.fail_at + 1:
            os.kill(os.getpid(), signal.SIGKILL)


def kills(_is_full: bool) -> Figure:
    """SIGKILL before each call that changes the disk while parts become a video; then a start, and a look."""
    done = subprocess.run(
        [sys.executable, "-m", __name__], capture_output=True, text=True, timeout=120, check=False
    )
    *_, text = done.stdout.strip().splitlines() or [done.stderr[-500:]]
    return Figure(text, done.returncode == 0)


def _kill_at_every_call() -> int:
    """How many kills there were, one in every fork, after each of which the video can be completed."""
    for number in range(100):
        with tempfile.TemporaryDirectory(dir=IN_MEMORY) as name:
            upload_id, part_ids = asyncio.run(_begun(Path(name)))
            if (pid := os.fork()) == 0:
                _complete_and_die(Path(name), number, upload_id, part_ids)
            _, status = os.waitpid(pid, 0)
            asyncio.run(_check(Path(name), upload_id, part_ids))
            if not os.WIFSIGNALED(status):
                return number
    raise AssertionError("it does not end")


async def _begun(folder: Path) -> tuple[str, list[str]]:
    store = await VideoStore.open(folder, StoreLimits())
    pieces = await store.parts.begin("public", len(_WHOLE), "a.mp4", Terms("vision"))
    ids = [(await store.parts.add(pieces, _one(each))).id for each in reversed(_PIECES)]
    await store.close()
    return pieces.id, ids[::-1]


def _complete_and_die(folder: Path, number: int, upload_id: str, part_ids: list[str]) -> NoReturn:
    async def complete() -> None:
        disk = _DeadlyDisk()
        store = await VideoStore.open(folder, StoreLimits(), disk)
        with disk.failing(number, OSError()):
            await _completed(store, upload_id, part_ids)
        await store.close()

    asyncio.run(complete())
    os._exit(0)


async def _completed(store: VideoStore, upload_id: str, part_ids: list[str]) -> None:
    if (pieces := await store.parts.find("public", upload_id)) is not None:
        async with store.parts.whole(pieces, part_ids, None) as received:
            await store.add(received, "public", pieces.filename, FACTS, terms=pieces.terms)


async def _check(folder: Path, upload_id: str, part_ids: list[str]) -> None:
    store = await VideoStore.open(folder, StoreLimits())
    await _completed(store, upload_id, part_ids)
    video = await store.completed("public", upload_id)
    assert (video.filename, video.purpose, video.num_bytes) == ("a.mp4", "vision", len(_WHOLE))
    assert (store.num_videos, store.num_bytes) == (1, len(_WHOLE))
    async with store.reading(video) as file:
        assert file.path.read_bytes() == _WHOLE
    assert list(store.incoming.iterdir()) == []
    await store.close()


async def _one(content: bytes) -> AsyncGenerator[bytes]:
    yield content


GOALS = (
    Goal(
        "parts, kills", "SIGKILL at every call while parts become a video: completed again, identical", kills
    ),
)

if __name__ == "__main__":
    sys.stdout.write(f"{_kill_at_every_call()} kills, each then completed, byte-identical, nothing left\n")
