"""Through which files something goes: call stacks, taken where it is handed on.

A point is a function; its stack is taken when it is called, from the outermost caller that the event loop or
a thread started, as far as the files are ours.
"""

import re
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

ROOT = Path(__file__).parents[1]
OURS = tuple(str(ROOT / folder) + "/" for folder in ("server", "bt_model"))
STARTERS = ("/asyncio/events.py", "/threading.py")  # below them nothing belongs to what is followed
CARRIERS = {"server/worker/thread.py"}  # hands a call to a thread, as asyncio's own would

Stack = list[str]
Condition = Callable[[Mapping[str, Any]], bool]
"""Whether a call with these arguments hands on what is followed."""


class Recorder:
    """A profile function that passes the stack of every point, once, to `keep`."""

    def __init__(self, points: Mapping[str, Condition], keep: Callable[[Stack], None]) -> None:
        self._points = dict(points)
        self._keep = keep

    def __call__(self, frame: FrameType, event: str, argument: object) -> None:
        name = frame.f_code.co_qualname
        if event != "call" or name not in self._points or not frame.f_code.co_filename.startswith(OURS):
            return
        if self._points[name](frame.f_locals):
            del self._points[name]
            self._keep(stack_of(frame))

    def install(self) -> None:
        """Watch this thread and all that are started from now on."""
        threading.setprofile(self)
        sys.setprofile(self)


def uninstall() -> None:
    """Watch no more."""
    threading.setprofile(None)
    sys.setprofile(None)


def stack_of(frame: FrameType | None) -> Stack:
    """Our files from the outermost to the innermost, each as often as the calls come back to it."""
    files = Stack()
    while frame is not None and not frame.f_code.co_filename.endswith(STARTERS):
        path = frame.f_code.co_filename
        if path.startswith(OURS):
            files.insert(0, str(Path(path).relative_to(ROOT)))
        frame = frame.f_back
    return [file for file in files if file not in CARRIERS]


def files_along(stacks: Sequence[Stack], first: str, hops: Mapping[str, str] | None = None) -> list[str]:
    """The files of all stacks, each once, from `first` on: what is outside it in a stack is left out.

    `hops` are the files that another process begins with, by those that start it.

    Raises:
        AssertionError: a stack begins in a file that none before has reached; files between would be missed.
    """
    files = {first: None}
    for stack in stacks:
        own = stack[stack.index(first) :] if first in stack else stack
        reached = {*files, *(there for here, there in (hops or {}).items() if here in files)}
        assert own[0] in reached, stack
        files |= dict.fromkeys(own)
    return list(files)


def documented(chapter: str) -> list[str]:
    """The files of a numbered list in docs/flow.md."""
    text = (ROOT / "docs" / "flow.md").read_text()
    return re.findall(
        r"^\d+\. `([^`]+)`", text.split(f"## {chapter}\n")[1].split("\n## ")[0], flags=re.MULTILINE
    )
