"""Uploads in parts: they end, leave room, and come out of folders of before."""

import asyncio
import sqlite3
from collections.abc import AsyncGenerator
from contextlib import closing
from pathlib import Path

import pytest

from bt_model.errors import UnknownNameError
from server.problems import Problem
from server.uploads.rows import Terms
from server.uploads.store import VideoStore
from server.uploads.usage import StoreLimits
from tests.server.uploads.test_store import FACTS, clock_of, one

HALF = b"x" * 1000


async def test_what_nobody_completes_ends_with_its_parts(tmp_path: Path) -> None:
    now = [1e9]
    store = await VideoStore.open(tmp_path, StoreLimits(resumable_seconds=60), clock=clock_of(now))
    pieces = await store.parts.begin("public", 2000, "", Terms())
    now[0] += 50
    await store.parts.add(pieces, one(HALF))
    now[0] += 50  # since the last part
    await store.delete_expired()
    assert (store.num_videos, store.num_bytes, len(list(store.incoming.iterdir()))) == (1, 2000, 2)
    now[0] += 11
    with pytest.raises(UnknownNameError):
        await store.parts.get("public", pieces.id)
    await store.delete_expired()
    assert (store.num_videos, store.num_bytes, list(store.incoming.iterdir())) == (0, 0, [])
    await store.close()


async def test_a_part_of_one_who_leaves_at_any_moment_is_there_or_not(tmp_path: Path) -> None:
    store = await VideoStore.open(tmp_path, StoreLimits())
    pieces = await store.parts.begin("public", 100_000, "", Terms())
    for number in range(60):
        adding = asyncio.create_task(store.parts.add(pieces, one(b"%d" % number)))
        for _ in range(number % 20):
            await asyncio.sleep(0.0003 if number < 40 else 0)
        adding.cancel()
        await asyncio.wait([adding])
    parts = store._storage.catalog.parts(pieces.id)  # pyright: ignore[reportPrivateUsage]
    assert {path.name for path in store.incoming.iterdir()} == {pieces.id, *(part.id for part in parts)}
    assert not store.parts._coming  # pyright: ignore[reportPrivateUsage]
    await store.close()


async def test_parts_at_once_take_no_more_than_one_part_beyond_what_was_announced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.uploads.parts.PART_BYTES", 1000)
    store = await VideoStore.open(tmp_path, StoreLimits())
    pieces = await store.parts.begin("public", 1000, "", Terms())

    async def slow() -> AsyncGenerator[bytes]:
        yield HALF
        await asyncio.sleep(0.2)

    ends = await asyncio.gather(*(store.parts.add(pieces, slow()) for _ in range(5)), return_exceptions=True)
    assert [isinstance(end, Problem) and end.code for end in ends].count("body_too_large") == 3
    await store.close()


async def test_what_is_put_together_has_room_for_both(tmp_path: Path) -> None:
    store = await VideoStore.open(tmp_path, StoreLimits(max_bytes=3000))
    pieces = await store.parts.begin("public", 2000, "", Terms())
    ids = [(await store.parts.add(pieces, one(HALF))).id] * 2  # one may stand twice in a file
    with pytest.raises(Problem, match="may take 3000 bytes"):
        async with store.parts.whole(pieces, ids, None):
            pass
    await store.close()
    store = await VideoStore.open(tmp_path, StoreLimits(max_bytes=4000))
    async with store.parts.whole(pieces, ids, None) as received:
        assert received.path.read_bytes() == 2 * HALF
        assert store.num_bytes == 4000
        await store.add(received, "public", "", FACTS)
    assert (store.num_bytes, list(store.incoming.iterdir())) == (2000, [])
    await store.close()


async def test_a_folder_of_before_has_its_uploads_and_those_in_pieces(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "btchat.sqlite3")) as db, db:
        db.execute(
            "CREATE TABLE videos (seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, "
            "tenant TEXT, sha256 TEXT, num_bytes INTEGER, filename TEXT, created_at INTEGER, "
            "expires_at INTEGER, facts TEXT)"
        )
        db.execute(
            "CREATE TABLE pieces (id TEXT PRIMARY KEY, tenant TEXT, num_bytes INTEGER, filename TEXT, "
            "received INTEGER, expires_at REAL, sha256 TEXT)"
        )
        facts = '{"width":1,"height":1,"num_frames":1,"fps":1,"seconds":1,"rotation":0,"codec":"h264",'
        row = ("vid_1", "public", "ab", 5, "a", 1, None, facts + '"container":"mp4","has_audio":false}')
        columns = "id, tenant, sha256, num_bytes, filename, created_at, expires_at, facts"
        db.execute(f"INSERT INTO videos ({columns}) VALUES (?,?,?,?,?,?,?,?)", row)
        db.execute("INSERT INTO pieces VALUES ('vid_2', 'public', 9, '', 2, 4e9, '')")
    for folder, name, content in (("videos", "ab", b"bytes"), ("incoming", "vid_2", b"ab")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).write_bytes(content)
    store = await VideoStore.open(tmp_path, StoreLimits())
    assert [each.purpose for each in await store.page("public", None, 9, "asc", "user_data")] == ["user_data"]
    assert (await store.resumable.get("public", "vid_2")).received == 2
    await store.close()
