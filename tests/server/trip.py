"""Call stacks where a question is handed on; as a module, an engine process that records its own.

A point is a function; its stack is taken when it is called, from the outermost caller that the event loop or
a thread started, as far as the files are ours.
"""

import json
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

from server.engine.wire import Ask

ROOT = Path(__file__).parents[2]
OURS = tuple(str(ROOT / folder) + "/" for folder in ("server", "bt_model"))
STARTERS = ("/asyncio/events.py", "/threading.py")  # below them nothing belongs to the question
CARRIERS = {"server/worker/thread.py"}  # hands a call to a thread, as asyncio's own would

Stack = list[str]
Condition = Callable[[Mapping[str, Any]], bool]
"""Whether a call with these arguments hands on a question."""

WEB: dict[str, Condition] = {
    "ChatFlow.answer": lambda _: True,
    "Channel.send": lambda arguments: isinstance(arguments["message"], Ask),
}
ENGINE: dict[str, Condition] = {
    "Worker._begin": lambda arguments: arguments["work"].__qualname__ == "Worker._answer",
    "TemplateBackend.segments": lambda _: True,
    "BatchEngine.submit": lambda _: True,
    "RotaryAttention.forward": lambda _: True,
}


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


def stack_of(frame: FrameType | None) -> Stack:
    """Our files from the outermost to the innermost, each as often as the calls come back to it."""
    files = Stack()
    while frame is not None and not frame.f_code.co_filename.endswith(STARTERS):
        path = frame.f_code.co_filename
        if path.startswith(OURS):
            files.insert(0, str(Path(path).relative_to(ROOT)))
        frame = frame.f_back
    return [file for file in files if file not in CARRIERS]


def main(out: str, *arguments: str) -> int:
    """Serve as the engine process does; a line of JSON for every stack goes to `out`."""
    file = Path(out).open("a", buffering=1)  # noqa: SIM115 - as long as the process

    def keep(stack: Stack) -> None:
        file.write(json.dumps(stack) + "\n")

    Recorder(ENGINE, keep).install()
    from server.worker.__main__ import main as serve  # noqa: PLC0415 - its import takes long, and is watched

    return serve(arguments)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
