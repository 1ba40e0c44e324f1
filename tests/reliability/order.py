"""The order of the calls that make an upload last: write, sync, rename, sync of the folder, row, response."""

import asyncio
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from unittest.mock import patch

import httpx

from server.uploads.durability import Durability
from server.uploads.store import VideoStore
from server.uploads.usage import StoreLimits
from tests.faulty_disk import FaultyDisk
from tests.reliability.goal import Figure, Goal
from tests.reliability.program import served, until
from tests.reliability.stored import IN_MEMORY, stored, unseen

ORDER = ("write", "sync", "rename", "sync_folder", "COMMIT", "response")
_STRACE = ("strace", "-f", "-y", "-s", "12", "-e", "trace=write,fsync,fdatasync,rename,sendto,writev,sendmsg")


def missing_sync(is_full: bool) -> Figure:
    """The order of a store that does not sync its files."""
    del is_full
    with patch.object(Durability, "sync", lambda self, fd: None):
        orders = asyncio.run(_recorded(3))
    return Figure(f"the order is {', '.join(orders[0])}", is_met=all(order == ORDER for order in orders))


def orders_of(is_full: bool) -> tuple[list[Sequence[str]], str]:
    if not is_full or shutil.which("strace") is None:
        why = "calls of the store" if not is_full else "calls of the store, as there is no strace"
        return asyncio.run(_recorded(5)), why
    with served(is_fake=True) as program:
        clip = (program.folder / "clip.mp4").read_bytes()
        trace = program.folder / "trace"
        tracer = subprocess.Popen(
            [*_STRACE, "-o", str(trace), "-p", str(program.process.pid)], stderr=subprocess.PIPE
        )
        assert tracer.stderr is not None
        tracer.stderr.readline()  # attached
        orders: list[Sequence[str]] = []
        for number in range(100):
            before = trace.stat().st_size
            answer = httpx.post(f"{program.url}/v1/video/uploads", content=unseen(clip, number))
            assert answer.is_success, answer.text
            until(lambda before=before: b'"HTTP/1.1 200' in trace.read_bytes()[before:])
            orders.append(_order_in(trace.read_bytes()[before:].decode(errors="replace")))
        tracer.terminate()
        tracer.wait()
    return orders, "strace"


def _order_in(trace: str) -> Sequence[str]:
    """The order of the system calls that make one upload last."""
    kinds = {
        "write": r"write\(\d+<[^>]*/incoming/",
        "sync": r"fsync\(\d+<[^>]*/incoming/",
        "rename": r"rename\(\S*/incoming/\S* \S*/videos/",
        "sync_folder": r"fsync\(\d+<[^>]*/videos>",
        "COMMIT": r"f(data)?sync\(\d+<[^>]*sqlite3-wal>",
        "response": r'\(\d+<[^>]*>, .*"HTTP/1.1 200',
    }
    found: list[str] = []
    for line in trace.splitlines():
        found += [kind for kind, pattern in kinds.items() if re.search(pattern, line)]
    return tuple(dict.fromkeys(found[: found.index("response") + 1] if "response" in found else found))


async def _recorded(count: int) -> list[Sequence[str]]:
    """The order of each upload's calls, as a disk between the store and the real one sees it."""
    disk, orders = FaultyDisk(), list[Sequence[str]]()
    with tempfile.TemporaryDirectory(dir=IN_MEMORY) as name:
        store = await VideoStore.open(Path(name), StoreLimits(), disk)
        for number in range(count):
            with disk.failing(-1, OSError()):
                await stored(store, number.to_bytes(4, "big"))
                calls = [call.partition(" ")[0] for call in disk.calls]
            orders.append(tuple(call for call in (*calls, "response") if call in ORDER))
        await store.close()
    return orders


GOALS = (Goal("missing fsync", "the order of a store that does not sync", missing_sync, is_control=True),)
