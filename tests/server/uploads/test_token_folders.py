"""Folders for tokens: there exactly as long as the upload."""

from pathlib import Path

import pytest

from server.uploads.store import VideoStore
from server.uploads.token_folders import TokenFolders, source_key
from server.uploads.usage import StoreLimits
from tests.server.uploads.test_store import added, twin


def names(folder: Path) -> set[str]:
    return {path.name for path in (folder / "tokens").iterdir()}


async def test_tokens_go_with_the_last_upload_of_their_owner(tmp_path: Path) -> None:
    store = await VideoStore.open(tmp_path, StoreLimits())
    first, other = await added(store), await added(store, "other")
    second = twin(store, first)
    mine, others = (source_key(video.tenant, video.sha256).hex() for video in (first, other))
    for name in (mine, others):
        (tmp_path / "tokens" / name / "tokens").write_bytes(b"")
    await store.delete(first)
    assert names(tmp_path) == {mine, others}
    await store.delete(second)
    assert names(tmp_path) == {others}
    await store.close()


async def test_a_start_deletes_tokens_without_an_upload_and_no_others(tmp_path: Path) -> None:
    store = await VideoStore.open(tmp_path, StoreLimits())
    video = await added(store)
    await store.close()
    (name,) = names(tmp_path)
    (tmp_path / "tokens" / name / "tokens").write_bytes(b"kept")
    for left in ("ab" * 32, f"{name}.deleted"):
        (tmp_path / "tokens" / left).mkdir()
        (tmp_path / "tokens" / left / "tokens").write_bytes(b"left")
    store = await VideoStore.open(tmp_path, StoreLimits())
    assert names(tmp_path) == {name}
    assert (tmp_path / "tokens" / name / "tokens").read_bytes() == b"kept"
    await store.delete(video)
    assert names(tmp_path) == set()
    await store.close()


async def test_a_start_makes_folders_for_uploads_that_have_none(tmp_path: Path) -> None:
    store = await VideoStore.open(tmp_path, StoreLimits())
    video = await added(store)
    await store.close()
    TokenFolders(tmp_path / "tokens").remove(video.tenant, video.sha256)  # as in a folder of an older version
    await (await VideoStore.open(tmp_path, StoreLimits())).close()
    assert names(tmp_path) == {source_key(video.tenant, video.sha256).hex()}


def test_removing_what_is_not_there_is_fine(tmp_path: Path) -> None:
    TokenFolders(tmp_path / "tokens").remove("me", "ab")
    assert names(tmp_path) == set()


def test_an_upload_whose_folder_cannot_be_made_is_an_upload(tmp_path: Path) -> None:
    folders = TokenFolders(tmp_path / "tokens")
    (tmp_path / "tokens").rmdir()
    folders.add("me", "ab")
    with pytest.raises(FileNotFoundError):
        names(tmp_path)
