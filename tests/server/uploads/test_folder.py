"""The data folder: one server's at a time, and nobody else's to read."""

import os
from pathlib import Path

import pytest

from bt_model.errors import InvalidValueError
from server.uploads.disk import Disk
from server.uploads.store import VideoStore
from server.uploads.usage import StoreLimits
from tests.leaks import no_leaks
from tests.server.uploads.test_store import MP4, added, one


async def test_a_second_server_is_told_who_has_the_folder_and_touches_nothing(tmp_path: Path) -> None:
    first = await VideoStore.open(tmp_path, StoreLimits())
    async with first.receiving(one(MP4), "public") as received:
        with pytest.raises(InvalidValueError, match=f"in use by pid {os.getpid()} on ") as caught:
            await VideoStore.open(tmp_path, StoreLimits())
        assert (caught.value.param, received.path.exists()) == ("data_dir", True)
    await first.close()
    await (await VideoStore.open(tmp_path, StoreLimits())).close()


def test_a_lock_is_not_inherited_by_children(tmp_path: Path) -> None:
    fd = Disk().lock(tmp_path / "lock")
    assert not os.get_inheritable(fd)
    os.close(fd)


async def test_what_was_readable_by_others_is_not_any_more(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    store = await VideoStore.open(folder, StoreLimits())
    video = await added(store)
    await store.close()
    paths = [folder, folder / "videos", folder / "incoming", folder / "tokens"]
    files = [folder / "btchat.sqlite3", folder / "videos" / video.sha256]
    for path in (*paths, *files):
        path.chmod(0o777)
    store = await VideoStore.open(folder, StoreLimits())
    files += [folder / f"btchat.sqlite3-{end}" for end in ("wal", "shm")]
    assert {path.stat().st_mode & 0o777 for path in paths} == {0o700}
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}
    await store.close()


def test_a_folder_for_everybody_stays_so(tmp_path: Path) -> None:
    tmp_path.chmod(0o1777)
    Disk().make_folder(tmp_path)
    assert tmp_path.stat().st_mode & 0o7777 == 0o1777


async def test_what_is_not_ours_keeps_no_server_from_starting_and_stays_as_it_is(tmp_path: Path) -> None:
    folder, outside = tmp_path / "data", tmp_path / "outside"
    await (await VideoStore.open(folder, StoreLimits())).close()
    outside.write_bytes(b"theirs")
    outside.chmod(0o644)
    (folder / "videos" / "lost+found").mkdir()
    (folder / "videos" / "dangling").symlink_to("nowhere")
    (folder / "incoming" / "link").symlink_to(outside)
    await (await VideoStore.open(folder, StoreLimits())).close()
    assert outside.stat().st_mode & 0o777 == 0o644


async def test_a_reserve_that_was_interrupted_is_made_again(tmp_path: Path) -> None:
    await (await VideoStore.open(tmp_path, StoreLimits())).close()
    (tmp_path / "reserve").write_bytes(b"")
    await (await VideoStore.open(tmp_path, StoreLimits())).close()
    assert (tmp_path / "reserve").stat().st_size == 1024 * 1024


def test_a_file_that_cannot_be_cut_is_not_left_open(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12")
    with no_leaks(), pytest.raises(OSError, match="Invalid argument"):
        Disk().reopen(tmp_path / "file", -1)
