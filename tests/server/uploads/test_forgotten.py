"""Uploads of which only tokens are kept, in the store on its own."""

import errno
import os
import shutil
from pathlib import Path

import pytest

from bt_model.errors import PixelsForgottenError
from server.problems import Problem
from server.uploads.rows import Removed, StoredVideo
from server.uploads.store import VideoStore
from server.uploads.token_folders import source_key
from server.uploads.usage import StoreLimits
from tests.faulty_disk import FaultyDisk, sqlite_error
from tests.server.uploads.test_store import added, twin

CONTENT = b"bytes"


def tokens_of(folder: Path, video: StoredVideo) -> Path:
    return folder / "tokens" / source_key(video.tenant, video.sha256).hex()


async def test_the_file_goes_and_the_tokens_stay_until_the_upload_goes(tmp_path: Path) -> None:
    store = await VideoStore.open(tmp_path, StoreLimits())
    video = await added(store)
    (tokens_of(tmp_path, video) / "ab").write_bytes(b"four")
    assert await store.forget_pixels(video) == Removed(file_bytes=5)
    assert (store.num_bytes, store.num_videos) == (0, 1)
    assert not (await store.get("public", video.id)).has_pixels
    with pytest.raises(PixelsForgottenError, match=f"the pixels of video {video.id} were deleted"):
        async with store.reading(video):
            pass
    await store.close()
    store = await VideoStore.open(tmp_path, StoreLimits())
    assert (store.num_bytes, store.num_videos) == (0, 1)
    assert (tokens_of(tmp_path, video) / "ab").exists()
    assert await store.delete(video) == Removed(token_files=1, token_bytes=4, is_last=True)
    assert not tokens_of(tmp_path, video).exists()
    await store.close()


async def test_what_another_key_has_stays_and_is_not_read(tmp_path: Path) -> None:
    store = await VideoStore.open(tmp_path, StoreLimits())
    mine, theirs = await added(store, "me"), await added(store, "them")
    assert await store.forget_pixels(mine) == Removed()
    assert store.num_bytes == 5
    with pytest.raises(PixelsForgottenError):
        async with store.reading(mine):
            pass
    async with store.reading(theirs) as file:
        assert file.path.read_bytes() == CONTENT
    assert (await store.delete(theirs)).file_bytes == 5
    assert (store.num_bytes, store.num_videos) == (0, 1)
    await store.close()


async def test_another_id_of_the_same_bytes_keeps_the_file(tmp_path: Path) -> None:
    store = await VideoStore.open(tmp_path, StoreLimits())
    first = await added(store)
    second = twin(store, first)
    assert await store.forget_pixels(first) == Removed()
    async with store.reading(second) as file:
        assert file.path.read_bytes() == CONTENT
    assert await store.delete(second) == Removed(file_bytes=5)
    await store.close()


async def test_a_reader_keeps_the_file_until_he_leaves(tmp_path: Path) -> None:
    store = await VideoStore.open(tmp_path, StoreLimits())
    video = await added(store)
    async with store.reading(video) as file:
        await store.forget_pixels(video)
        assert file.path.read_bytes() == CONTENT
    assert not file.path.exists()
    await store.close()


async def test_quotas_are_given_back_and_asked_again(tmp_path: Path) -> None:
    store = await VideoStore.open(tmp_path, StoreLimits(max_bytes_per_key=5, max_videos_per_key=2))
    video = await added(store)
    await store.forget_pixels(video)
    other = await added(store, content=b"other")
    with pytest.raises(Problem, match="may take 5 bytes"):
        await added(store)
    assert not (await store.get("public", video.id)).has_pixels
    await store.delete(other)
    assert await added(store) == video
    assert (store.num_bytes, store.num_videos) == (5, 1)
    await store.close()


async def test_a_full_disk_is_made_emptier(tmp_path: Path) -> None:
    disk = FaultyDisk()
    store = await VideoStore.open(tmp_path, StoreLimits(), disk)
    video = await added(store)
    with disk.failing(-1, sqlite_error("full")):
        disk.fail_at = 0
        assert (await store.forget_pixels(video)).file_bytes == 5
    await store.close()


@pytest.mark.parametrize("is_brought_back", [False, True])
async def test_a_process_that_ends_between_two_steps_leaves_nothing_half(
    tmp_path: Path, *, is_brought_back: bool
) -> None:
    """A copy of the folder before each call is what a kill at that moment would leave."""
    disk, copies = CopyingDisk(tmp_path), list[Path]()
    store = await VideoStore.open(tmp_path / "data", StoreLimits(), disk)
    video = await added(store)
    (tokens_of(tmp_path / "data", video) / "ab").write_bytes(b"kept")
    if is_brought_back:
        await store.forget_pixels(video)
    with disk.failing(-1, OSError(errno.EIO, os.strerror(errno.EIO))):
        disk.copies = copies
        await (added(store) if is_brought_back else store.forget_pixels(video))
        disk.copies = None
    await store.close()
    assert len(copies) >= 2
    seen = set[bool]()
    for copy in copies:
        store = await VideoStore.open(copy, StoreLimits())
        found = await store.get("public", video.id)
        seen.add(found.has_pixels)
        files = [path.name for path in (copy / "videos").iterdir()]
        assert files == ([video.sha256] if found.has_pixels else [])
        assert [*(copy / "incoming").iterdir()] == []
        assert store.num_bytes == (5 if found.has_pixels else 0)
        assert (tokens_of(copy, video) / "ab").read_bytes() == b"kept"
        await store.close()
    assert seen == ({False} if is_brought_back else {True, False})


class CopyingDisk(FaultyDisk):
    """Before each call it copies the folder, if it is told where copies are to be noted."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder
        self.copies: list[Path] | None = None

    def step(self, name: str) -> None:
        super().step(name)
        if self.copies is not None:
            self.copies.append(self._folder / f"copy {len(self.copies)}")
            shutil.copytree(self._folder / "data", self.copies[-1])
