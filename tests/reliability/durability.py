"""What was acknowledged is there after a kill, nothing is that might not be, and one server has a folder."""

import asyncio
import contextlib
import errno
import hashlib
import os
import random
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx

from server.problems import Problem
from server.uploads.store import VideoStore
from server.uploads.usage import StoreLimits
from tests.clips import write_clip
from tests.faulty_disk import FaultyDisk
from tests.reliability.goal import Figure, Goal
from tests.reliability.order import ORDER, orders_of, unseen
from tests.reliability.program import Program, served, until
from tests.reliability.stored import IN_MEMORY, chunks_of, killed_uploads, stored, video_of
from tests.server.test_main import fake_program
from tests.server.test_resumable import PIECE, TUS

_UPLOADERS, _IN_PIECES = 20, 2


def kills(is_full: bool) -> Figure:
    """SIGKILL at a random moment while 20 clients upload, two of them in pieces; then a start, and a look."""
    count, total, lost, seconds = _kills_of_servers(100) if is_full else asyncio.run(_kill_of_a_store())
    orders, source = orders_of(is_full)
    right = sum(order == ORDER for order in orders)
    acknowledged = asyncio.run(_acknowledged_without_sync(200 if is_full else 5))
    text = (
        f"{count} kills, {total} acknowledged, {len(lost)} lost or altered{': ' if lost else ''}"
        f"{', '.join(lost[:3])}; orphans gone after {seconds:.1f} s; {right} of {len(orders)} in order "
        f"({source}); {acknowledged} acknowledged after a failed fsync"
    )
    is_met = not lost and seconds < 5 and right == len(orders) and total > 0 and not acknowledged
    return Figure(text, is_met)


def two_servers(is_full: bool) -> Figure:
    """A second server on the data folder of one that is receiving an upload."""
    return _two_servers() if is_full else asyncio.run(_a_store_and_a_server())


def _two_servers() -> Figure:
    with served(is_fake=True) as first:
        clip = (first.folder / "clip.mp4").read_bytes()
        kept = first.upload()
        go_on = threading.Event()

        def slowly() -> Iterator[bytes]:
            yield clip[:1000]
            go_on.wait(30)
            yield clip[1000:]

        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(_post, first, slowly())
            until(lambda: list((first.data / "incoming").iterdir()))
            refusal = _second_on(first.data, first.process.pid)
            go_on.set()
            whole: str = answer.result().json().get("id", "none")
        is_unharmed = {each["id"] for each in first.videos()} == {kept, whole}
        first.process.kill()
        first.process.wait()
        with served(folder=first.folder, is_fake=True) as third:
            is_free = {each["id"] for each in third.videos()} == {kept, whole}
    text = f"{refusal.text}; the first unharmed: {is_unharmed}; one after its kill starts: {is_free}"
    return Figure(text, refusal.is_met and is_unharmed and is_free)


async def _a_store_and_a_server() -> Figure:
    with tempfile.TemporaryDirectory(dir=IN_MEMORY) as name:
        store = await VideoStore.open(Path(name), StoreLimits())
        async with store.receiving(chunks_of(video_of(b"half")), "public") as received:
            refusal = _second_on(Path(name), os.getpid())
            is_unharmed = received.path.exists()
        await store.close()
    return Figure(f"{refusal.text}; the first unharmed: {is_unharmed}", refusal.is_met and is_unharmed)


def _second_on(data: Path, holder: int) -> Figure:
    """What a second server says, and whether that is one line with the first one's number."""
    begin = time.monotonic()
    done = subprocess.run(fake_program(data), capture_output=True, text=True, timeout=60, check=False)
    said = done.stderr.strip().replace(str(data), "DATA")
    is_told = done.returncode == 1 and f"in use by pid {holder} " in said and "\n" not in said
    return Figure(f"the second ends after {time.monotonic() - begin:.1f} s: {said}", is_told)


def _kills_of_servers(count: int) -> tuple[int, int, list[str], float]:
    """Kills, acknowledged uploads, those that were lost, and how long orphans were there after a start."""
    draws = random.Random(7)
    known, total, lost, slowest = dict[str, str](), 0, list[str](), 0.0
    with tempfile.TemporaryDirectory(prefix="btchat-kills-") as name:
        clip = write_clip(Path(name) / "clip.mp4").read_bytes()
        for _ in range(count):
            with served(folder=Path(name), is_fake=True) as program:
                if _strangers(program):
                    slowest = max(slowest, until(lambda program=program: not _strangers(program), 5))
                lost += _lost(program, known)
                known = _uploaded_until_killed(program, clip, draws)
                total += len(known)
        with served(folder=Path(name), is_fake=True) as program:
            lost += _lost(program, known)
    return count, total, lost, slowest


async def _kill_of_a_store() -> tuple[int, int, list[str], float]:
    with tempfile.TemporaryDirectory(dir=IN_MEMORY) as name:
        told = killed_uploads(Path(name), 40)
        begin = time.monotonic()
        store = await VideoStore.open(Path(name), StoreLimits())
        videos = {each.id: each.sha256 for each in await store.page("public", None, 1000, "asc")}
        await store.close()
        files = {path.name for path in (Path(name) / "videos").iterdir()}
        lost = [each for each, digest in told.items() if videos.get(each) != digest]
        lost += list(files ^ set(videos.values()))
        lost += [
            each
            for each in files
            if hashlib.sha256((Path(name) / "videos" / each).read_bytes()).hexdigest() != each
        ]
        lost += [path.name for path in (Path(name) / "incoming").iterdir()]
    return 1, len(told), lost, time.monotonic() - begin


def _uploaded_until_killed(program: Program, clip: bytes, draws: random.Random) -> dict[str, str]:
    """Ids and digests of what was acknowledged, and offsets of what was begun."""
    told = dict[str, str]()
    seeds = [draws.random() for _ in range(_UPLOADERS)]

    def upload(number: int) -> None:
        own = random.Random(seeds[number])
        with contextlib.suppress(httpx.TransportError), program.client() as client:
            while True:
                content = unseen(clip, own.getrandbits(32))
                if number < _IN_PIECES:
                    _in_pieces(client, content, told)
                    continue
                answer = client.post("/v1/video/uploads", content=content)
                if answer.is_success:
                    told[answer.json()["id"]] = hashlib.sha256(content).hexdigest()

    threads = [threading.Thread(target=upload, args=(number,)) for number in range(_UPLOADERS)]
    for thread in threads:
        thread.start()
    time.sleep(0.2 + 0.8 * draws.random())
    program.process.kill()
    for thread in threads:
        thread.join()
    return told


def _in_pieces(client: httpx.Client, content: bytes, told: dict[str, str]) -> None:
    begun = client.post("/v1/video/uploads/resumable", headers={**TUS, "upload-length": str(len(content))})
    path = begun.headers["location"]
    name = path.rpartition("/")[2]
    for begin in range(0, len(content), 20_000):
        piece = content[begin : begin + 20_000]
        answer = client.patch(path, headers={**PIECE, "upload-offset": str(begin)}, content=piece)
        told[name] = answer.headers["upload-offset"]
    told[name] = hashlib.sha256(content).hexdigest()


def _lost(program: Program, known: dict[str, str]) -> list[str]:
    """What of all that was acknowledged is not there as it came; everything is deleted afterwards."""
    lost: list[str] = []
    with program.client() as client:
        listed = {each["id"]: each for each in program.videos()}
        for name, told in known.items():
            if told.isdecimal():
                offset = client.head(f"/v1/video/uploads/resumable/{name}", headers=TUS).headers.get(
                    "upload-offset"
                )
                lost += [f"{name} of {offset} of {told} bytes"] if int(offset or -1) < int(told) else []
                client.delete(f"/v1/video/uploads/resumable/{name}", headers=TUS)
            elif name not in listed or listed[name]["sha256"] != told:
                lost.append(name)
        for each in listed.values():
            content = (program.data / "videos" / each["sha256"]).read_bytes()
            if hashlib.sha256(content).hexdigest() != each["sha256"]:
                lost.append(f"{each['id']} altered")
            client.delete(f"/v1/video/uploads/{each['id']}")
    return lost


def _strangers(program: Program) -> set[str]:
    """Files that belong to no upload."""
    listed = {each["sha256"] for each in program.videos()}
    names = {path.name for path in (program.data / "videos").iterdir()}
    half = {path.name for path in (program.data / "incoming").iterdir() if not path.name.startswith("vid_")}
    return (names ^ listed) | half


def _post(program: Program, content: bytes | Iterator[bytes]) -> httpx.Response:
    with program.client() as client:
        return client.post("/v1/video/uploads", content=content)


async def _acknowledged_without_sync(count: int) -> int:
    """How many of so many uploads are acknowledged whose file, or its folder, cannot be synced."""
    acknowledged = 0
    for number in range(count):
        disk = FaultyDisk()
        with tempfile.TemporaryDirectory(dir=IN_MEMORY) as name:
            store = await VideoStore.open(Path(name), StoreLimits(), disk)
            call = ("sync", "sync_folder videos")[number % 2]
            with disk.failing(-1, OSError()):
                await stored(store, b"first")
                at = disk.calls.index(call)
            with disk.failing(at, OSError(errno.EIO, "planted")), contextlib.suppress(Problem):
                await stored(store, b"second")
                acknowledged += 1
            with contextlib.suppress(Problem):
                await stored(store, b"third")
                acknowledged += 1
            await store.close()
            left = len(list((Path(name) / "videos").iterdir())) + len(
                list((Path(name) / "incoming").iterdir())
            )
            acknowledged += left != 1
    return acknowledged


GOALS = (
    Goal("G7", "100 kills under 20 uploads: 0 acknowledged lost, all in order, 0 without a sync", kills),
    Goal("two servers", "the second on a folder refuses in a line, the first unharmed", two_servers),
)
