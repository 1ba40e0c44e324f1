"""What a path that fails may leave behind: open descriptors and child processes."""

import os
import re
import time
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Holdings:
    """What a process holds now: its descriptors by what they lead to, and its children by their commands."""

    files: Counter[str]
    children: Counter[str]

    @classmethod
    def of(cls, pid: int | str = "self") -> "Holdings":
        files = Counter(_kind(fd) for fd in Path(f"/proc/{pid}/fd").iterdir())
        return cls(files, Counter(map(command_of, children(pid))))

    def beyond(self, before: "Holdings") -> str:
        """What is held beyond `before`; empty where there is nothing."""
        files, processes = self.files - before.files, self.children - before.children
        return ", ".join([*files.elements(), *processes.elements()])


def children(pid: int | str = "self") -> list[int]:
    """Child processes, dead ones that nobody waited for as well; not the one that multiprocessing starts."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):  # a thread that ended since
            found += [int(child) for child in (task / "children").read_text().split()]
    return [child for child in found if "resource_tracker" not in command_of(child)]


@contextmanager
def no_leaks(pid: int | str = "self") -> Generator[None]:
    """Fail if more is held at the end than at the start; waits for what other processes bring about."""
    before = Holdings.of(pid)
    yield
    until = time.monotonic() + _SECONDS
    while (more := Holdings.of(pid).beyond(before)) and time.monotonic() < until:
        time.sleep(0.02)
    assert not more, f"left behind: {more}"


def _kind(fd: Path) -> str:
    """What a descriptor leads to, without the number of a socket or pipe."""
    try:
        return str(fd.readlink()).partition(":[")[0]
    except FileNotFoundError:  # the one that lists the folder
        return "gone"


def command_of(pid: int) -> str:
    """The command line without its numbers; empty for one that is gone, "dead" for one not waited for."""
    try:
        text = Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except FileNotFoundError:
        return ""
    return re.sub(r"\d+", "N", text) or "dead"


@contextmanager
def memory_file(content: bytes = b"x") -> Generator[int]:
    """A descriptor that stays ours."""
    fd = os.memfd_create("frames")
    try:
        os.write(fd, content)
        yield fd
    finally:
        os.close(fd)
