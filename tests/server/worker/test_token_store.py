"""Tokens on disk: what comes back is what was put, or nothing; and nobody waits for the disk."""

import asyncio
import os
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from bt_model.types import Sampling
from server.features.keys import feature_key
from server.uploads.receive import Received
from server.uploads.sources import InlineVideo
from server.uploads.token_folders import TokenFolders
from server.worker.feature_cache import CacheEntry
from server.worker.token_cache import TokenCache
from server.worker.token_file import PooledTokens, to_bytes
from server.worker.token_store import TokenStore
from tests.fakes import CARD

ROOM = 1 << 20
RECEIPT = {"frames": {"indices": [0, 3], "timestamps": [0.0, 0.1]}, "audio_ignored": False}


def key_of(number: int = 0, *, tenant: str = "me", fingerprint: str = "f") -> bytes:
    """The key of this tenant's only video with a sampling of its own."""
    video = InlineVideo(Received(Path(), "ab" * 32, 0), tenant, AsyncExitStack())
    card = replace(CARD, fingerprint=fingerprint)
    return feature_key(video, Sampling(num_frames=number + 1), card, "pyav")


def entry_of(number: int = 0, dtype: torch.dtype = torch.float32) -> CacheEntry[PooledTokens]:
    tokens = torch.randn(3, 4, generator=torch.Generator().manual_seed(number)).to(dtype)
    return CacheEntry(PooledTokens(tokens, "f"), tokens.nbytes, RECEIPT)


SIZE = len(to_bytes(key_of(), entry_of()))


@pytest.fixture
def folders(tmp_path: Path) -> TokenFolders:
    """With a folder for one video of `me`."""
    folders = TokenFolders(tmp_path / "tokens")
    folders.add("me", "ab" * 32)
    return folders


@pytest.fixture
def folder(tmp_path: Path, folders: TokenFolders) -> Path:
    return tmp_path / "tokens"


async def opened(folder: Path, max_bytes: int = ROOM) -> TokenStore:
    """What a new engine process has."""
    store = TokenStore(folder, max_bytes)
    await store.open()
    return store


async def kept(folder: Path, *numbers: int, max_bytes: int = ROOM) -> TokenStore:
    store = await opened(folder, max_bytes)
    for number in numbers:
        store.put(key_of(number), entry_of(number))
        await store.close(10)
    return store


async def known(store: TokenStore, *numbers: int) -> list[bool]:
    return [await store.get(key_of(number)) is not None for number in numbers]


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if not path.is_dir())


def unfinished(folder: Path, number: int) -> Path:
    """Where a file is written before it is renamed."""
    (source,) = folder.iterdir()
    return source / f".{key_of(number)[32:].hex()}.part"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
async def test_another_process_finds_the_same_tokens_and_receipt(folder: Path, dtype: torch.dtype) -> None:
    store = await opened(folder)
    store.put(key_of(), entry_of(dtype=dtype))
    await store.close(10)
    store = await opened(folder)
    entry = await store.get(key_of())
    assert entry is not None
    assert entry.value.tokens.dtype == dtype
    assert torch.equal(entry.value.tokens, entry_of(dtype=dtype).value.tokens)
    assert (entry.value.fingerprint, entry.receipt) == ("f", RECEIPT)
    assert (entry.num_bytes, store.num_hits, len(store)) == (12 * dtype.itemsize, 1, 1)


async def test_samplings_models_and_tenants_are_entries_of_their_own(
    folder: Path, folders: TokenFolders
) -> None:
    store = await kept(folder, 0, 1)
    folders.add("you", "ab" * 32)
    assert await store.get(key_of(0, fingerprint="e")) is None
    assert await store.get(key_of(0, tenant="you")) is None
    assert await known(store, 0, 1, 2) == [True, True, False]


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "cut off": lambda data: data[:-1],
    "empty": lambda _: b"",
    "a bit of the tokens": lambda data: data[:-1] + bytes([data[-1] ^ 1]),
    "a bit of the receipt": lambda data: data.replace(b"0.1]", b"0.2]"),
    "another key's": lambda _: to_bytes(key_of(1), entry_of(1)),
}


@pytest.mark.parametrize("name", DAMAGES)
async def test_a_damaged_file_is_dropped_with_one_line(
    folder: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    await kept(folder, 0)
    (path,) = files(folder)
    data = path.read_bytes()
    path.write_bytes(DAMAGES[name](data))
    assert path.read_bytes() != data
    store = await opened(folder)
    assert await known(store, 0, 0) == [False, False]
    assert (files(folder), store.num_bytes, store.num_hits) == ([], 0, 0)
    assert caplog.messages == [f"dropped the tokens {path.name}: the checksum is wrong"]


async def test_files_take_no_more_than_they_may_and_the_least_recently_used_goes(folder: Path) -> None:
    store = await kept(folder, 0, 1, max_bytes=2 * SIZE)
    await store.get(key_of(0))
    store.put(key_of(2), entry_of(2))
    await store.close(10)
    assert await known(store, 0, 1, 2) == [True, False, True]
    assert store.num_bytes == sum(path.stat().st_size for path in files(folder)) == 2 * SIZE


@pytest.mark.parametrize("last", range(3))
async def test_another_process_knows_what_was_used_last(folder: Path, last: int) -> None:
    store = await kept(folder, 0, 1, 2)
    for path in files(folder):
        os.utime(path, (0, 0))
    await store.get(key_of(last))
    assert await known(await opened(folder, SIZE), 0, 1, 2) == [number == last for number in range(3)]


@pytest.mark.parametrize("max_bytes", [0, SIZE - 1])
async def test_what_is_too_large_is_not_kept(folder: Path, max_bytes: int) -> None:
    await kept(folder, 0)
    store = await kept(folder, 1, max_bytes=max_bytes)
    assert (files(folder), store.num_bytes) == ([], 0)


async def test_forgotten_keys_are_no_longer_known(folder: Path) -> None:
    store = await kept(folder, 0, 1)
    store.forget(key_of(0)[:-1])
    assert (await known(store, 0, 1), store.num_bytes) == ([False, True], SIZE)


async def test_a_deleted_video_leaves_nothing_and_gets_nothing_any_more(
    folder: Path, folders: TokenFolders, caplog: pytest.LogCaptureFixture
) -> None:
    store = await kept(folder, 0)
    folders.remove("me", "ab" * 32)
    assert await known(store, 0) == [False]
    store.put(key_of(1), entry_of(1))  # was being encoded
    await store.close(10)
    assert (files(folder), store.num_bytes, caplog.messages) == ([], 0, [])


async def test_a_file_that_was_never_finished_is_deleted(folder: Path) -> None:
    await kept(folder, 0)
    (path,) = files(folder)
    os.rename(path, unfinished(folder, 0))  # noqa: PTH104 - pathlib's does the same
    assert len(await opened(folder)) == 0
    assert files(folder) == []


async def test_a_full_disk_is_one_line(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = await opened(folder)
    unfinished(folder, 0).symlink_to("/dev/full")
    store.put(key_of(), entry_of())
    await store.close(10)
    assert (files(folder), len(store)) == ([], 0)
    (said,) = caplog.messages
    assert said.startswith("tokens are not kept on disk: ")
    await kept(folder, 0)
    assert len(files(folder)) == 1  # as soon as there is room


async def test_a_disk_that_hangs_keeps_nobody_waiting(folder: Path) -> None:
    store = await kept(folder, 0)
    os.mkfifo(pipe := unfinished(folder, 1))
    store.put(key_of(1), entry_of(1))
    await store.close(0.05)
    assert await asyncio.wait_for(known(store, 0, 1), 5) == [True, False]
    reading = await asyncio.to_thread(pipe.open, "rb")  # lets the thread go on
    with reading:
        assert len(await asyncio.to_thread(reading.read)) == SIZE
    await store.close(10)


async def test_what_is_used_in_memory_is_not_given_up_first_on_disk(folder: Path) -> None:
    cache = TokenCache(ROOM, await opened(folder, 3 * SIZE))
    for number in (0, 1, 2, None, 3):
        if number is None:
            assert await cache.get(key_of(0)) is not None
        else:
            cache.put(key_of(number), entry_of(number).value, RECEIPT)
            await cache.store.close(10)
    assert await known(cache.store, 0, 1, 2, 3) == [True, False, True, True]
