"""A store on its own, in this process or in one that is killed."""

import asyncio
import hashlib
import random
import subprocess
import sys
from collections.abc import AsyncGenerator
from pathlib import Path

from bt_model.types import VideoFacts
from server.uploads.store import VideoStore
from server.uploads.usage import StoreLimits

IN_MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None
"""A folder for what is done hundreds of times and never meant to last."""

FACTS = VideoFacts(96, 64, 30, 25.0, 1.2, 0, "h264", "mp4", has_audio=False)
_HEAD = (16).to_bytes(4, "big") + b"ftypisom\0\0\0\0" + (8).to_bytes(4, "big") + b"moov"


def video_of(content: bytes) -> bytes:
    """A file that looks like a video until it is decoded."""
    return _HEAD + (len(content) + 8).to_bytes(4, "big") + b"free" + content


def unseen(clip: bytes, seed: int) -> bytes:
    """A clip with a box of its own, that readers skip."""
    draws = random.Random(seed)
    more = draws.randbytes(draws.randint(8, 200_000))
    return clip + (len(more) + 8).to_bytes(4, "big") + b"free" + more


async def chunks_of(content: bytes) -> AsyncGenerator[bytes]:
    for begin in range(0, len(content), 10_000):
        yield content[begin : begin + 10_000]


async def stored(store: VideoStore, content: bytes, tenant: str = "public") -> str:
    """The id of an upload that was acknowledged."""
    async with store.receiving(chunks_of(video_of(content)), tenant) as received:
        return (await store.add(received, tenant, "", FACTS)).id


def killed_uploads(folder: Path, count: int) -> dict[str, str]:
    """Ids and digests of what a process acknowledged to 20 clients until it was killed."""
    told = dict[str, str]()
    command = [sys.executable, "-m", __name__, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            name, digest = line.split()
            told[name] = digest
            if len(told) == count:
                process.kill()
    return told


async def _upload_for_ever(folder: Path) -> None:
    store = await VideoStore.open(folder, StoreLimits())

    async def client(number: int) -> None:
        for turn in range(10_000):
            content = f"{number}/{turn} ".encode() * 10_000
            name = await stored(store, content)
            sys.stdout.write(f"{name} {hashlib.sha256(video_of(content)).hexdigest()}\n")
            sys.stdout.flush()

    await asyncio.gather(*(client(number) for number in range(20)))


if __name__ == "__main__":
    asyncio.run(_upload_for_ever(Path(sys.argv[1])))
