"""The store on a disk that is full or fails."""

import contextlib
import errno
import os
from pathlib import Path

import pytest

from bt_model.errors import UnknownNameError
from server.problems import Problem
from server.uploads.expiry import expiring
from server.uploads.store import VideoStore
from server.uploads.usage import StoreLimits
from tests.faulty_disk import FaultyDisk, sqlite_error
from tests.server.uploads.test_age import Times
from tests.server.uploads.test_store import FACTS, MP4, added, one

EIO = OSError(errno.EIO, os.strerror(errno.EIO))


async def upload(store: VideoStore, content: bytes = MP4) -> str:
    async with store.receiving(one(content), "public") as received:
        return (await store.add(received, "public", "", FACTS)).id


@pytest.mark.parametrize("call", ["sync", "rename videos", "sync_folder videos", "COMMIT"])
async def test_after_a_failed_sync_nothing_is_stored_until_a_restart(tmp_path: Path, call: str) -> None:
    disk = FaultyDisk()
    store = await VideoStore.open(tmp_path, StoreLimits(), disk)
    kept = await upload(store, MP4 + b"kept")
    with disk.failing(-1, EIO):
        await store.delete(await store.get("public", await upload(store)))
        number = disk.calls.index(call)
    error = sqlite_error("fsync") if call == "COMMIT" else EIO
    with disk.failing(number, error), pytest.raises(Problem) as caught:
        await upload(store)
    assert (caught.value.status_code, caught.value.code, store.is_degraded) == (503, "storage_failed", True)
    with pytest.raises(Problem, match="start the server again"):
        await upload(store)
    for folder, names in (("incoming", 0), ("videos", 1)):
        assert len(list((tmp_path / folder).iterdir())) == names
    async with store.reading(await store.get("public", kept)) as file:
        assert file.path.read_bytes() == MP4 + b"kept"
    await store.delete(await store.get("public", kept))
    await store.close()
    store = await VideoStore.open(tmp_path, StoreLimits())
    await upload(store)
    await store.close()


@pytest.mark.parametrize("call", ["create incoming", "write", "sync_folder videos", "unlink videos"])
async def test_want_of_descriptors_ends_one_upload_and_not_all(tmp_path: Path, call: str) -> None:
    disk = FaultyDisk()
    store = await VideoStore.open(tmp_path, StoreLimits(), disk)
    await store.delete(await store.get("public", await upload(store)))
    with disk.failing(-1, EIO):
        await store.delete(await store.get("public", await upload(store)))
        number = disk.calls.index(call)
    error = OSError(errno.EMFILE if call != "write" else errno.EIO, "planted")
    with disk.failing(number, error), contextlib.suppress(Problem):
        await store.delete(await store.get("public", await upload(store)))
    assert not store.is_failed
    await upload(store)
    await store.close()


async def test_a_row_is_deleted_with_the_reserve_where_the_disk_is_full(tmp_path: Path) -> None:
    disk = FaultyDisk()
    store = await VideoStore.open(tmp_path, StoreLimits(), disk)
    video = await added(store)
    assert (tmp_path / "reserve").stat().st_blocks * 512 >= 1024 * 1024
    with disk.failing(0, sqlite_error("full")):
        await store.delete(video)
    assert disk.calls[:3] == ["DELETE", f"unlink {tmp_path.name}", "DELETE"]
    assert [path.name for path in (tmp_path / "videos").iterdir()] == []
    assert (tmp_path / "reserve").exists()  # again
    await store.close()


async def test_a_video_whose_file_is_gone_and_not_its_row_is_deleted(tmp_path: Path) -> None:
    disk = FaultyDisk()
    store = await VideoStore.open(tmp_path, StoreLimits(), disk)
    video = await added(store)
    (tmp_path / "videos" / video.sha256).unlink()
    with pytest.raises(UnknownNameError, match="was deleted"):
        async with store.reading(video):
            pass
    await store.close()


async def test_a_file_that_cannot_be_deleted_is_tried_again(tmp_path: Path) -> None:
    disk = FaultyDisk()
    store = await VideoStore.open(tmp_path, StoreLimits(), disk)
    video = await added(store)
    with disk.failing(2, EIO):  # DELETE, COMMIT, unlink
        await store.delete(video)
    assert len(list((tmp_path / "videos").iterdir())) == 1
    await store.delete_expired()
    assert list((tmp_path / "videos").iterdir()) == []
    await store.close()


async def test_a_disk_that_fails_at_the_start_is_said_as_it_is(tmp_path: Path) -> None:
    store = await VideoStore.open(tmp_path, StoreLimits())
    await store.close()
    (tmp_path / "btchat.sqlite3").unlink()
    disk = FaultyDisk()
    disk.fail_at, disk.error = 0, EIO
    with pytest.raises(OSError, match="Input/output error"):
        await VideoStore.open(tmp_path, StoreLimits(), disk)
    await (await VideoStore.open(tmp_path, StoreLimits())).close()  # and nobody has the folder


async def test_reading_and_listing_tell_that_the_disk_failed(tmp_path: Path) -> None:
    store = await VideoStore.open(tmp_path, StoreLimits())
    await store._run(store._storage.catalog.close)  # pyright: ignore[reportPrivateUsage]
    for asked in (store.get("public", "vid_1"), store.page("public", None, 1, "asc")):
        with pytest.raises(Problem) as caught:
            await asked
        assert caught.value.code == "storage_failed"
    await store.close()


@pytest.mark.parametrize("error", [sqlite_error("write"), ZeroDivisionError()])
async def test_what_deletes_expired_uploads_survives_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    monkeypatch.setattr("server.uploads.expiry._SHORTEST_PAUSE", 0.001)
    monkeypatch.setattr("server.uploads.expiry._LONGEST_PAUSE", 0.001)
    times, disk = Times(), FaultyDisk()
    store = await VideoStore.open(tmp_path, StoreLimits(60), disk, times.clock)
    video = await added(store)
    forgotten: list[str] = []
    times.passed(61)
    with disk.failing(0, error):
        async with expiring(store, lambda tenant, sha256: forgotten.append(sha256)):
            while not forgotten:
                await store.page("public", None, 1, "asc")
    assert forgotten == [video.sha256]
    await store.close()


async def test_a_row_that_could_not_follow_its_file_is_deleted_later(tmp_path: Path) -> None:
    disk = FaultyDisk()
    store = await VideoStore.open(tmp_path, StoreLimits(), disk)
    video = await added(store)
    catalog = store._storage.catalog  # pyright: ignore[reportPrivateUsage]

    def fail(_: object) -> None:
        raise sqlite_error("full")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(catalog, "delete", fail)
        with pytest.raises(Problem, match="full"):
            await store.delete(video)
    assert [path.name for path in (tmp_path / "videos").iterdir()] == []
    again = await added(store)  # its deletion has begun: these bytes are a new upload
    assert again.id != video.id
    assert await store.delete_expired() == []
    async with store.reading(again) as file:
        assert file.path.exists()
    await store.delete(again)
    assert store.num_videos == store.num_bytes == 0
    await store.close()
