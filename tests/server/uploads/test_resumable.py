"""Uploads in pieces whose requests end at any moment, and that a machine is too busy to decode."""

import asyncio
import errno
from collections.abc import AsyncGenerator, AsyncIterator
from hashlib import sha256
from pathlib import Path
from random import Random

import pytest

from bt_model.errors import DecodeTimeoutError
from server.uploads import resumable
from server.uploads.rows import Pieces
from server.uploads.store import VideoStore
from server.uploads.usage import StoreLimits
from tests.faulty_disk import FaultyDisk

CONTENT = Random(5).randbytes(1000)


@pytest.fixture
def disk() -> FaultyDisk:
    return FaultyDisk()


@pytest.fixture
async def store(
    tmp_path: Path, disk: FaultyDisk, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[VideoStore]:
    monkeypatch.setattr(resumable, "BLOCK_BYTES", 64)
    monkeypatch.setattr(resumable, "_SYNC_BYTES", 256)
    store = await VideoStore.open(tmp_path, StoreLimits(), disk)
    yield store
    await store.close()


async def rest(content: bytes) -> AsyncGenerator[bytes]:
    for start in range(0, len(content), 50):
        yield content[start : start + 50]


async def begun(store: VideoStore, number: int) -> Pieces:
    return await store.resumable.begin(f"vid_{number}", "public", len(CONTENT), "")


@pytest.mark.parametrize("is_last", [False, True])
async def test_a_request_that_ends_at_any_moment_leaves_what_it_sent(
    store: VideoStore, *, is_last: bool
) -> None:
    pieces, num_turns = await begun(store, 0), 0
    while pieces.received < len(CONTENT):
        sending = asyncio.create_task(store.resumable.append(pieces, rest(CONTENT[pieces.received :])))
        for _ in range(num_turns):
            await asyncio.sleep(0.0005 if is_last else 0)
        sending.cancel()
        await asyncio.wait([sending])
        num_turns += 1
        pieces = await store.resumable.get("public", pieces.id)
        written = (store.incoming / pieces.id).read_bytes()
        assert written[: pieces.received] == CONTENT[: pieces.received]
        assert CONTENT.startswith(written)
    async with store.resumable.whole(pieces) as received:
        assert received.sha256 == sha256(CONTENT).hexdigest()
    assert num_turns > (1 if is_last else 3)  # a busy machine sends much in half a millisecond


async def test_what_stands_behind_the_end_of_an_upload_is_not_stored(store: VideoStore) -> None:
    pieces = await store.resumable.append(await begun(store, 0), rest(CONTENT))
    with (store.incoming / pieces.id).open("ab") as file:
        file.write(CONTENT[:64])
    async with store.resumable.whole(pieces) as received:
        assert received.path.read_bytes() == CONTENT


async def test_an_upload_that_was_not_decoded_in_time_is_kept(store: VideoStore) -> None:
    pieces = await store.resumable.append(await begun(store, 0), rest(CONTENT))
    with pytest.raises(DecodeTimeoutError):
        async with store.resumable.whole(pieces):
            raise DecodeTimeoutError("the machine is busy")
    assert await store.resumable.find("public", pieces.id)
    assert (store.incoming / pieces.id).read_bytes() == CONTENT


async def test_a_file_that_could_not_be_deleted_is_deleted_later(store: VideoStore, disk: FaultyDisk) -> None:
    first, second = await begun(store, 1), await begun(store, 2)
    with disk.failing(-1, OSError()):
        await store.resumable.delete(first)
        number = disk.calls.index("unlink incoming")
    with disk.failing(number, OSError(errno.EIO, "planted")):
        await store.resumable.delete(second)
    assert [path.name for path in store.incoming.iterdir()] == [second.id]
    await store.delete_expired()
    assert list(store.incoming.iterdir()) == []
