"""Disks that are full or fail, at each call of the store and as a whole."""

import asyncio
import contextlib
import errno
import os
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from pathlib import Path

import httpx

from server.problems import Problem
from server.uploads.disk import Clock
from server.uploads.store import VideoStore, new_id
from server.uploads.usage import StoreLimits
from tests import fakes
from tests.faulty_disk import CHANGES, FaultyDisk, sqlite_error
from tests.reliability.goal import Figure, Goal
from tests.reliability.program import Program, completion, served, until
from tests.reliability.stored import FACTS, IN_MEMORY, chunks_of, stored, unseen, video_of

_ERRORS = ("ENOSPC", "EIO", "EDQUOT")
_OF_SQLITE = {"ENOSPC": "full", "EIO": "fsync", "EDQUOT": "write"}
_DISK_BYTES = 8 << 20

Work = Callable[[VideoStore], Awaitable[str]]


async def _upload(store: VideoStore) -> str:
    return await stored(store, b"new" * 10_000)


async def _delete(store: VideoStore) -> str:
    video = await store.get("public", await stored(store, b"doomed"))
    await store.delete(video)
    return ""


async def _in_pieces(store: VideoStore) -> str:
    content = video_of(b"pieces")
    pieces = await store.resumable.begin(new_id(), "public", len(content), "")
    pieces = await store.resumable.append(pieces, chunks_of(content[:20]))
    pieces = await store.resumable.append(pieces, chunks_of(content[20:]))
    async with store.resumable.whole(pieces) as received:
        return (await store.add(received, "public", "", FACTS)).id


def faults(is_full: bool) -> Figure:
    """Each call of an upload, a deletion and an upload in pieces fails; then the whole disk is full."""
    tried, wrong = 0, list[str]()
    every = [(work, name) for work in (_upload, _delete, _in_pieces) for name in _ERRORS]
    for work, name in every if is_full else [(_upload, "ENOSPC"), (_in_pieces, "EIO")]:
        more, bad = asyncio.run(_each_call(work, name))
        tried, wrong = tried + more, wrong + bad
    text = f"{tried} faults, {len(wrong)} ended otherwise{': ' if wrong else ''}{'; '.join(wrong[:3])}"
    whole = _served_on_a_full_disk() if is_full else asyncio.run(_stored_on_a_full_disk())
    return Figure(f"{text}; {whole.text}", not wrong and tried >= (100 if is_full else 20) and whole.is_met)


async def _each_call(work: Work, name: str) -> tuple[int, list[str]]:
    """Faults that were tried, and those after which something was not as it must be."""
    wrong: list[str] = []
    at = 0
    while True:
        with tempfile.TemporaryDirectory(dir=IN_MEMORY) as folder:
            call, bad = await _one(Path(folder), work, name, at)
        if not call:
            return at, wrong
        wrong += [f"{work.__name__} {name} at {call}: {each}" for each in bad]
        at += 1


async def _one(folder: Path, work: Work, name: str, at: int) -> tuple[str, list[str]]:
    """The call that failed, empty where there were not so many; and what was wrong afterwards."""
    disk = FaultyDisk()
    store = await VideoStore.open(folder, StoreLimits(), disk)
    kept = await stored(store, b"kept")
    acknowledged, problem = "", None
    with disk.failing(at, OSError(getattr(errno, name), name)):
        disk.database_error = sqlite_error(_OF_SQLITE[name])
        try:
            acknowledged = await work(store)
        except Problem as error:
            problem = error
        call = disk.calls[at] if len(disk.calls) > at else ""
    bad = [] if problem is None or problem.status_code in {503, 507} else [f"status {problem.status_code}"]
    if name == "ENOSPC" and problem is not None and problem.code != "storage_full":
        bad.append(f"code {problem.code}")
    listed = {each.id: each.sha256 for each in await store.page("public", None, 10, "asc")}
    bad += [] if {kept, acknowledged} - {""} <= listed.keys() else ["an acknowledged upload is gone"]
    if work is not _delete and problem is not None and len(listed) > 1:
        bad.append("a part is visible")
    files = {path.name for path in (folder / "videos").iterdir()}
    if not files <= set(listed.values()) and not call.startswith("unlink"):
        bad.append("a file without a row is left")
    is_lost = name == "EIO" and call.partition(" ")[0] in {"sync", "rename", "sync_folder", *CHANGES}
    if is_lost and problem is not None and not store.is_failed:
        bad.append("uploads go on after a sync that failed")
    if not store.is_failed:
        await store.delete_expired()
        await stored(store, b"next")
    elif name != "EIO":
        bad.append("read-only for want of space")
    await store.close()
    store = await VideoStore.open(folder, StoreLimits())
    after = {each.id: each.sha256 for each in await store.page("public", None, 10, "asc")}
    files = {path.name for path in (folder / "videos").iterdir()}
    bad += [] if files == set(after.values()) and listed.keys() <= after.keys() else ["rows and files differ"]
    await stored(store, b"after a restart")
    await store.close()
    return call, bad


@contextmanager
def _small_disk() -> Generator[Path | None]:
    """An empty disk of a few megabytes; None where this process may not make one."""
    with tempfile.TemporaryDirectory() as name:
        options = ["-t", "tmpfs", "-o", f"size={_DISK_BYTES}", "tmpfs", name]
        if subprocess.run(["mount", *options], capture_output=True, check=False).returncode:
            yield None
            return
        try:
            yield Path(name)
        finally:
            subprocess.run(["umount", "-l", name], check=True)


_NO_DISK = Figure("a full disk was left out: only root may make one", is_met=True)


def _fill(disk: Path) -> None:
    """Not one byte is left."""
    with (disk / "filling").open("ab", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))


async def _stored_on_a_full_disk() -> Figure:
    now = [1e9]
    with _small_disk() as disk:
        if disk is None:
            return _NO_DISK
        store = await VideoStore.open(
            disk / "data", StoreLimits(60), clock=Clock(lambda: now[0], lambda: now[0])
        )
        ids = [await stored(store, os.urandom(50_000)) for _ in range(20)]
        _fill(disk)
        refused = await _refused(store)
        await store.delete(await store.get("public", ids[0]))
        await stored(store, b"after DELETE")
        _fill(disk)
        refused = refused and await _refused(store)
        now[0] += 61
        expired = len(await store.delete_expired())
        await stored(store, b"after expiry")
        await store.close()
    text = (
        f"0 bytes free: uploads refused {refused}, DELETE freed, {expired} expired, the next uploads stored"
    )
    return Figure(text, refused and expired == 20)


async def _refused(store: VideoStore) -> bool:
    with contextlib.suppress(Problem):
        await stored(store, os.urandom(5000))
        return False
    return store.is_degraded


def _served_on_a_full_disk() -> Figure:
    """The same by HTTP, with questions meanwhile; the log is on the full disk, too."""
    with _small_disk() as disk:
        if disk is None:
            return _NO_DISK
        with (
            served("--upload-ttl-seconds", "15", folder=disk, is_fake=True) as program,
            program.client() as client,
        ):
            said = [_by_hand(program, client, disk), _by_age(program, client, disk)]
    return Figure("; ".join(each.text for each in said), all(each.is_met for each in said))


def _by_hand(program: Program, client: httpx.Client, disk: Path) -> Figure:
    clip = (disk / "clip.mp4").read_bytes()
    large = clip + (400_008).to_bytes(4, "big") + b"free" + os.urandom(400_000)
    name = program.upload(large)
    _fill(disk)
    statuses = [_upload_status(client, unseen(clip, number)) for number in range(3)]
    asked = [
        client.post("/v1/chat/completions", json=completion("still there?", model=fakes.MODEL)).status_code
        for _ in range(20)
    ]
    ready = client.get("/health/ready")
    deleted = client.delete(f"/v1/video/uploads/{name}").status_code
    after = _upload_status(client, clip)
    text = (
        f"0 bytes free: uploads {statuses}, {asked.count(200)} of {len(asked)} questions answered, "
        f"storage {ready.json()['storage']}, DELETE {deleted}, then an upload {after}"
    )
    is_met = statuses == [507] * 3 and asked == [200] * 20 and ready.json()["storage"] == "degraded"
    return Figure(text, is_met and (deleted, after) == (200, 200))


def _by_age(program: Program, client: httpx.Client, disk: Path) -> Figure:
    clip = (disk / "clip.mp4").read_bytes()
    _fill(disk)
    expired = until(lambda: not list((program.data / "videos").iterdir()), 30)
    after = _upload_status(client, clip)
    (disk / "filling").unlink()
    good = until(lambda: _upload_status(client, unseen(clip, int(time.monotonic() * 1000))) == 200)
    is_ready = client.get("/health/ready").json()["storage"] == "ok"
    text = (
        f"expiry frees within {expired:.0f} s, then an upload {after}; "
        f"with space again good after {good:.1f} s"
    )
    return Figure(text, expired < 30 and after == 200 and good < 5 and is_ready)


def _upload_status(client: httpx.Client, content: bytes) -> int:
    answer = client.post("/v1/video/uploads", content=content)
    assert answer.status_code == 200 or answer.json()["error"]["code"].startswith("storage_")
    return answer.status_code


GOALS = (
    Goal("G8", "every fault 507 or 503, 0 partial, questions answered, a full disk can be freed", faults),
)
