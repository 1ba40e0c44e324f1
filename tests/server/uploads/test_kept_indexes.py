"""Indexes of packets are kept with uploads: one tenant's, no longer than these, and small."""

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from bt_model.types import VideoFacts
from server.uploads.receive import Received
from server.uploads.rows import StoredVideo
from server.uploads.store import VideoStore
from server.uploads.usage import StoreLimits
from tests.faulty_disk import SQLITE, FaultyDisk

FACTS = VideoFacts(96, 64, 30, 25.0, 1.2, 0, "h264", "mp4", has_audio=False)
FEWER = replace(FACTS, num_frames=20, warnings=("20 of 30 frames",))
PROBED, FOUND = b"of a probe", b"of a decode"


async def added(
    store: VideoStore, tenant: str = "me", content: bytes = b"bytes", index: bytes = PROBED
) -> StoredVideo:
    path = store.incoming / "file"
    path.write_bytes(content)
    received = Received(path, content[:40].hex(), len(content))
    return await store.add(received, tenant, "name", FACTS, index=index)


async def index_of(store: VideoStore, video: StoredVideo) -> bytes:
    async with store.reading(video) as file:
        return file.index


async def test_an_index_comes_with_its_file_also_after_a_restart(tmp_path: Path) -> None:
    store = await VideoStore.open(tmp_path, StoreLimits())
    video, other = await added(store), await added(store, content=b"others", index=b"")
    assert [await index_of(store, each) for each in (video, other)] == [PROBED, b""]
    await store.close()
    store = await VideoStore.open(tmp_path, StoreLimits())
    assert await index_of(store, video) == PROBED
    await store.close()


async def test_what_a_decode_finds_out_holds_for_all_uploads_of_its_tenant_and_for_no_other(
    tmp_path: Path,
) -> None:
    store = await VideoStore.open(tmp_path, StoreLimits())
    first, second, theirs = await added(store), await added(store), await added(store, "them")
    assert await store.learn(first, FEWER, FOUND)
    third, theirs_too = await added(store), await added(store, "them")
    for video in (first, second, third):
        assert (await store.get("me", video.id)).facts == FEWER
        assert await index_of(store, video) == FOUND
    for video in (theirs, theirs_too):
        assert (await store.get("them", video.id)).facts == FACTS
        assert await index_of(store, video) == PROBED
    await store.close()


async def test_a_new_index_alone_outdates_nothing(tmp_path: Path) -> None:
    store = await VideoStore.open(tmp_path, StoreLimits())
    video = await added(store, index=b"")
    assert not await store.learn(video, FACTS, FOUND)
    assert await index_of(store, video) == FOUND
    assert not await store.learn(video, FEWER, b"")  # nothing was found out
    assert (await index_of(store, video), (await store.get("me", video.id)).facts) == (FOUND, FACTS)
    await store.close()


@pytest.mark.parametrize("index", [b"", bytes(4097)])
async def test_frames_that_were_recounted_are_kept_also_where_their_index_is_too_large(
    tmp_path: Path, index: bytes
) -> None:
    store = await VideoStore.open(tmp_path, StoreLimits())
    video, theirs = await added(store), await added(store, "them")
    assert await store.learn(video, FEWER, index, is_recounted=True)
    assert (await index_of(store, video), (await store.get("me", video.id)).facts) == (b"", FEWER)
    assert (await index_of(store, theirs), (await store.get("them", theirs.id)).facts) == (PROBED, FACTS)
    learned = await store.get("me", video.id)
    assert not await store.learn(learned, FEWER, index, is_recounted=True), "that is known"
    await store.close()


async def test_an_index_ends_with_its_upload(tmp_path: Path) -> None:
    store = await VideoStore.open(tmp_path, StoreLimits())
    await store.delete(await added(store))
    assert await index_of(store, await added(store, index=b"")) == b""
    await store.close()


@pytest.mark.parametrize(("num_bytes", "most"), [(5, 4096), (16_000, 5096), (1_600_000, 104_096)])
async def test_an_index_is_kept_if_it_is_small_beside_its_video(
    tmp_path: Path, num_bytes: int, most: int
) -> None:
    store = await VideoStore.open(tmp_path, StoreLimits(max_bytes_per_key=3 * num_bytes))
    for letter, length, kept in ((b"a", most, most), (b"b", most + 1, 0)):
        video = await added(store, content=letter * num_bytes, index=bytes(length))
        assert len(await index_of(store, video)) == kept
    assert not await store.learn(video, FEWER, bytes(most + 1))
    assert (await store.get("me", video.id)).facts == FACTS
    await store.close()


async def test_a_catalogue_of_an_earlier_version_gets_a_place_for_indexes(tmp_path: Path) -> None:
    store = await VideoStore.open(tmp_path, StoreLimits())
    video = await added(store)
    await store.close()
    with closing(sqlite3.connect(tmp_path / "btchat.sqlite3")) as db, db:
        db.execute("ALTER TABLE videos DROP COLUMN packet_index")
    store = await VideoStore.open(tmp_path, StoreLimits())
    assert await index_of(store, video) == b""
    await store.learn(video, FACTS, FOUND)
    assert await index_of(store, video) == FOUND
    await store.close()


async def test_many_large_indexes_are_deleted_in_little_space(tmp_path: Path) -> None:
    store = await VideoStore.open(tmp_path, StoreLimits())
    for number in range(20):
        await added(store, content=b"%d" % number * 4_000_000, index=bytes([number]) * 250_000)
    await store.close()
    store = await VideoStore.open(tmp_path, StoreLimits())
    log = tmp_path / "btchat.sqlite3-wal"
    before = log.stat().st_size
    for video in await store.page("me", None, 20, "asc"):
        await store.delete(video)
    assert log.stat().st_size - before < 1024 * 1024  # what a full disk has in reserve
    await store.close()


@pytest.mark.parametrize("kind", SQLITE)
async def test_an_index_that_cannot_be_kept_is_found_again(tmp_path: Path, kind: str) -> None:
    disk = FaultyDisk()
    store = await VideoStore.open(tmp_path, StoreLimits(), disk)
    video = await added(store)
    text, code = SQLITE[kind]
    error = sqlite3.OperationalError(text)
    error.sqlite_errorcode = code
    disk.database_error = error
    with disk.failing(0, error):
        assert not await store.learn(video, FEWER, FOUND)
    assert await index_of(store, video) == PROBED
    await store.close()
