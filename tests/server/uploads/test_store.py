"""The store on its own: readers, expiry, and tenants."""

import asyncio
import sqlite3
import threading
from collections.abc import AsyncGenerator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from bt_model.errors import UnknownNameError
from bt_model.types import VideoFacts
from server.problems import Problem
from server.uploads.disk import Clock
from server.uploads.receive import Received
from server.uploads.rows import StoredVideo
from server.uploads.store import VideoStore
from server.uploads.usage import StoreLimits
from tests.leaks import no_leaks

MP4 = b"\0\0\0\x10ftypisom\0\0\0\0\0\0\0\x08moov"
FACTS = VideoFacts(96, 64, 30, 25.0, 1.2, 0, "h264", "mp4", has_audio=False)


async def added(store: VideoStore, tenant: str = "public", content: bytes = b"bytes") -> StoredVideo:
    path = store.incoming / "file"
    path.write_bytes(content)
    return await store.add(Received(path, content.hex(), len(content)), tenant, "name", FACTS)


def twin(store: VideoStore, video: StoredVideo) -> StoredVideo:
    """A second row of the same bytes, as earlier versions had them."""
    other = replace(video, id=f"{video.id}_twin")
    store._storage.catalog.insert(other, b"")  # pyright: ignore[reportPrivateUsage]
    return other


async def test_the_same_bytes_have_the_same_id_and_live_longer(tmp_path: Path) -> None:
    now = [1e9]
    store = await VideoStore.open(tmp_path, StoreLimits(60), clock=clock_of(now))
    first = await added(store)
    now[0] += 40
    again = await added(store)
    assert again == replace(first, expires_at=first.created_at + 100)
    assert (store.num_videos, store.num_bytes) == (1, 5)
    now[0] += 30
    assert await store.delete_expired() == []
    assert [path.name for path in store.incoming.iterdir()] == []
    now[0] += 31
    assert (await added(store)).id != first.id  # what has expired is gone, whether or not it was swept
    await store.close()


async def test_a_shorter_life_takes_nothing_and_none_is_the_longest(tmp_path: Path) -> None:
    for seconds in (60.0, 0.0, 60.0):
        store = await VideoStore.open(tmp_path, StoreLimits(seconds))
        video = await added(store)
        await store.close()
    assert video.expires_at is None  # pyright: ignore[reportPossiblyUnboundVariable]


async def test_a_name_is_kept_unless_there_was_none(tmp_path: Path) -> None:
    store = await VideoStore.open(tmp_path, StoreLimits())

    async def named(name: str) -> str:
        path = store.incoming / "file"
        path.write_bytes(b"bytes")
        return (await store.add(Received(path, "ab", 5), "public", name, FACTS)).filename

    assert [await named(name) for name in ("", "first", "second")] == ["", "first", "first"]
    await store.close()


async def test_a_folder_with_two_ids_of_the_same_bytes_still_works(tmp_path: Path) -> None:
    store = await VideoStore.open(tmp_path, StoreLimits(max_videos_per_key=2))
    first = await added(store)
    second = twin(store, first)
    await store.close()
    store = await VideoStore.open(tmp_path, StoreLimits(max_videos_per_key=2))
    assert await store.page("public", None, 10, "asc") == [first, second]
    assert (await added(store)).id == first.id
    assert not (await store.delete(first)).is_last
    assert (await added(store)).id == second.id
    assert (await store.delete(second)).is_last
    assert (store.num_videos, store.num_bytes) == (0, 0)
    await store.close()


async def test_an_id_given_before_the_bytes_leads_to_their_video_while_it_is_there(tmp_path: Path) -> None:
    store = await VideoStore.open(tmp_path, StoreLimits())
    first = await added(store)
    for number in range(20):  # of which the last sixteen are kept
        pieces = await store.resumable.begin(f"vid_{number}", "public", 5, "")
        path = store.incoming / pieces.id
        path.write_bytes(b"bytes")
        received = Received(path, first.sha256, 5, pieces.id)
        assert await store.add(received, "public", "", FACTS) == first
    assert await store.get("public", "vid_19") == await store.get("public", "vid_4") == first
    with pytest.raises(UnknownNameError):
        await store.get("public", "vid_3")
    with pytest.raises(UnknownNameError):
        await store.get("other", "vid_19")
    assert (store.num_videos, store.num_bytes, list(store.incoming.iterdir())) == (1, 5, [])
    await store.delete(first)
    with pytest.raises(UnknownNameError):
        await store.get("public", "vid_19")
    await store.close()


async def test_a_file_stays_while_it_is_read(tmp_path: Path) -> None:
    store = await VideoStore.open(tmp_path, StoreLimits())
    video = await added(store)
    async with store.reading(video) as file:
        await store.delete(video)
        assert file.path.read_bytes() == b"bytes"
    assert not file.path.exists()
    await store.close()


async def test_readers_who_leave_at_any_moment_keep_no_file(tmp_path: Path) -> None:
    store = await VideoStore.open(tmp_path, StoreLimits())
    video = await added(store)

    async def read() -> None:
        async with store.reading(video):
            await asyncio.sleep(10)

    readers = [asyncio.create_task(read()) for _ in range(30)]
    for reader in readers:
        await asyncio.sleep(0)
        reader.cancel()
    await asyncio.wait(readers)
    await store.delete(video)
    assert list((tmp_path / "videos").iterdir()) == []
    await store.close()


async def test_facts_come_back_with_their_picture_and_without_one_from_earlier_versions(
    tmp_path: Path,
) -> None:
    store = await VideoStore.open(tmp_path, StoreLimits())
    facts = replace(FACTS, pix_fmt="yuv420p10le", sample_aspect_ratio="4:3")
    path = store.incoming / "file"
    path.write_bytes(b"bytes")
    video = await store.add(Received(path, "ab", 5), "public", "name", facts)
    assert (await store.get("public", video.id)).facts == facts
    await store.close()
    with closing(sqlite3.connect(tmp_path / "btchat.sqlite3")) as db, db:
        db.execute("UPDATE videos SET facts = json_remove(facts, '$.pix_fmt', '$.sample_aspect_ratio')")
    store = await VideoStore.open(tmp_path, StoreLimits())
    assert (await store.get("public", video.id)).facts == FACTS
    await store.close()


async def test_closing_leaves_no_thread_and_no_descriptor(tmp_path: Path) -> None:
    before = disk_threads()
    with no_leaks():
        store = await VideoStore.open(tmp_path, StoreLimits())
        await added(store)
        await store.close()
    assert disk_threads() == before  # of other stores in this process


def disk_threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name.startswith("disk")}


async def test_reading_a_video_that_was_just_deleted_says_so(tmp_path: Path) -> None:
    store = await VideoStore.open(tmp_path, StoreLimits())
    video = await added(store)
    async with store.reading(video):  # its file stays for this reader alone
        await store.delete(video)
        with pytest.raises(UnknownNameError, match="was deleted"):
            async with store.reading(video):
                pass
    await store.close()


async def test_tenants_share_bytes_but_never_see_each_other(tmp_path: Path) -> None:
    store = await VideoStore.open(tmp_path, StoreLimits())
    mine, theirs = await added(store, "me"), await added(store, "them")
    with pytest.raises(UnknownNameError):
        await store.get("me", theirs.id)
    assert await store.page("me", None, 10, "asc") == [mine]
    assert (await store.delete(mine)).is_last
    async with store.reading(theirs) as file:
        assert file.path.exists()
    await store.close()


async def test_an_upload_expires(tmp_path: Path) -> None:
    now = [1e9]
    store = await VideoStore.open(tmp_path, StoreLimits(60), clock=clock_of(now))
    video = await added(store)
    now[0] += 59
    assert await store.get("public", video.id) == video
    now[0] += 2
    with pytest.raises(UnknownNameError):
        await store.get("public", video.id)
    assert await store.delete_expired() == [video]
    assert list((tmp_path / "videos").iterdir()) == []
    await store.close()


async def test_a_row_without_its_file_is_dropped_at_start(tmp_path: Path) -> None:
    store = await VideoStore.open(tmp_path, StoreLimits())
    video = await added(store)
    await store.close()
    (tmp_path / "videos" / video.sha256).unlink()
    store = await VideoStore.open(tmp_path, StoreLimits())
    assert await store.page("public", None, 10, "asc") == []
    await store.close()


async def test_an_upload_that_cannot_be_noted_leaves_no_bytes(tmp_path: Path) -> None:
    store = await VideoStore.open(tmp_path, StoreLimits())
    with closing(sqlite3.connect(tmp_path / "btchat.sqlite3")) as other:
        other.execute("CREATE TRIGGER full BEFORE INSERT ON videos BEGIN SELECT RAISE(ABORT, 'no'); END")
    with pytest.raises(Problem, match="nothing was changed"):
        await added(store)
    assert list((tmp_path / "videos").iterdir()) == []
    await store.close()


async def test_files_take_no_more_than_they_may(tmp_path: Path) -> None:
    store = await VideoStore.open(tmp_path, StoreLimits(max_bytes=10))
    first = await added(store, content=b"123456")
    await added(store, tenant="other", content=b"123456")  # the same file
    with pytest.raises(Problem, match=r"may take 10 bytes .*MAX_STORED_BYTES") as caught:
        await added(store, content=b"12345")
    assert (caught.value.status_code, caught.value.code) == (507, "storage_full")
    assert len(await store.page("public", None, 10, "asc")) == 1
    for video in (first, *await store.page("other", None, 1, "asc")):
        await store.delete(video)
    await added(store, content=b"12345")
    await store.close()


@pytest.mark.parametrize(
    ("limits", "setting"),
    [
        (StoreLimits(max_bytes_per_key=20), "MAX_STORED_BYTES_PER_KEY"),
        (StoreLimits(max_videos_per_key=2), "MAX_VIDEOS_PER_KEY"),
    ],
)
async def test_a_key_has_its_own_limits_and_others_theirs(
    tmp_path: Path, limits: StoreLimits, setting: str
) -> None:
    store = await VideoStore.open(tmp_path, limits)
    first = await added(store, "me", b"12345678")
    assert await added(store, "me", b"12345678") == first  # the same bytes do not count again
    await added(store, "me", b"87654321")
    with pytest.raises(Problem, match=setting) as caught:
        await added(store, "me", b"12345")
    assert (caught.value.status_code, caught.value.code) == (413, "storage_quota")
    with pytest.raises(Problem, match=setting):
        async with store.receiving(one(MP4), "me", 12):
            pass
    await added(store, "other", b"12345")
    await store.close()
    store = await VideoStore.open(tmp_path, limits)  # a restart forgets nothing
    with pytest.raises(Problem, match=setting):
        await added(store, "me", b"12345")
    await store.delete(first)
    await added(store, "me", b"12345")
    await store.close()


async def test_what_is_being_received_takes_room_as_it_comes(tmp_path: Path) -> None:
    store = await VideoStore.open(tmp_path, StoreLimits(max_bytes=100))
    await added(store, content=bytes(30))

    async def body(*sizes: int) -> AsyncGenerator[bytes]:
        yield MP4
        for size in sizes:
            yield bytes(size)

    async with store.receiving(body(0), "public", 40), store.receiving(body(2), "public"):
        with pytest.raises(Problem):
            async with store.receiving(body(1), "public"):
                pass
    assert store.incoming_bytes == 0
    with pytest.raises(Problem):
        async with store.receiving(body(), "public", 71):
            pass
    assert (store.incoming_bytes, list(store.incoming.iterdir())) == (0, [])
    await store.close()


async def test_what_is_stored_keeps_no_question_from_its_video(tmp_path: Path) -> None:
    store = await VideoStore.open(tmp_path, StoreLimits(max_bytes=40))
    await added(store, content=bytes(40))
    async with store.lending(one(MP4)) as received:
        assert received.num_bytes == len(MP4)
    with pytest.raises(Problem):
        async with store.lending(one(MP4 + bytes(30))):
            pass
    await store.close()


async def test_what_has_expired_takes_no_room(tmp_path: Path) -> None:
    now = [1e9]
    store = await VideoStore.open(tmp_path, StoreLimits(60, 30), clock=clock_of(now))
    old = await added(store, content=bytes(27))
    now[0] += 61
    async with store.receiving(one(MP4), "public") as received:
        assert received.num_bytes == len(MP4)
    assert await store.delete_expired() == [old]  # what was computed of it is still to be forgotten
    assert await store.delete_expired() == []
    await store.close()


def clock_of(now: list[float]) -> Clock:
    """Time that passes when a test says so."""
    return Clock(lambda: now[0], lambda: now[0])


async def one(chunk: bytes) -> AsyncGenerator[bytes]:
    yield chunk
