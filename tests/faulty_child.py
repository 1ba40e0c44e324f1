"""A decode child that does what its file says in place of decoding: `python -m tests.faulty_child [PART …]`.

The parts of the sandbox that are named are missing, as on a kernel that does not have them.
"""

import ctypes
import errno
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import NoReturn

import numpy as np

from bt_model.decoding import child, sandbox, wire
from bt_model.types import VideoFacts
from bt_model.video.attempt import Attempt
from tests.clips import ClipSpec, write_clip
from tests.escapes import Target, successes

_MARK = b"fault:"
_MOST = 4096
HURRIED_FRAMES = 10
SLOW_SECONDS = 0.15  # for each frame of a slow file
COMMAND = ("-P", "-m", "tests.faulty_child")
_STEPS = {
    "namespaces": "unshare",
    "landlock": "deny_files",
    "seccomp": "deny_calls",
}


def with_fault(video: bytes, name: str, words: bytes = b"") -> bytes:
    """The same video with one more box, which makes such a child misbehave and others skip it."""
    content = _MARK + name.encode() + b"\0" + words
    return video + (8 + len(content)).to_bytes(4, "big") + b"free" + content


def write_hurried(path: Path, group: int) -> Path:
    """A clip of 30 frames in groups of so many; after `HURRIED_FRAMES` the time is over."""
    options = {"crf": "10", "bf": "0", "g": f"{group}", "sc_threshold": "0"}
    write_clip(path, ClipSpec(30, options=options))
    path.write_bytes(with_fault(path.read_bytes(), "hurry"))
    return path


def _hang() -> None:
    time.sleep(3600)


def _segfault() -> None:
    ctypes.string_at(0)


def _bomb() -> None:
    kept = [np.zeros(1 << 28, np.uint8) for _ in range(1 << 10)]
    raise AssertionError(f"{len(kept)} blocks fitted")


def _be_killed() -> None:
    signal.pthread_kill(threading.get_ident(), signal.SIGKILL)


def _break() -> None:
    raise IndexError("nothing that a decoder should raise")


def _hurry() -> None:
    """The time is over after so many frames, however fast they came."""
    checks = count(1)
    Attempt.is_over = property(lambda _: next(checks) >= HURRIED_FRAMES)  # pyright: ignore[reportAttributeAccessIssue]


def _be_slow() -> None:
    """Each frame takes its time."""
    found = Attempt.found

    def slowly(self: Attempt, num_frames: int) -> None:
        time.sleep(SLOW_SECONDS)
        found(self, num_frames)

    Attempt.found = slowly


FAULTS: dict[str, Callable[[], None]] = {
    "hurry": _hurry,
    "slow": _be_slow,
    "hang": _hang,
    "abort": os.abort,
    "segfault": _segfault,
    "bomb": _bomb,
    "killed": _be_killed,
    "broken": _break,
}


def main(missing: Sequence[str]) -> None:
    """Serve like the real one."""
    for name in missing:
        setattr(sandbox, _STEPS[name], _fail)
    real = child._work  # pyright: ignore[reportPrivateUsage] - faults happen where decoding does

    def work(
        setup: wire.Setup, request: wire.Request, fds: Sequence[int], send: child.Send
    ) -> wire.Reply | wire.Refusal:
        size = os.lseek(fds[0], 0, os.SEEK_END)
        _, mark, fault = os.pread(fds[0], _MOST, max(0, size - _MOST)).rpartition(_MARK)
        name, _, words = fault.partition(b"\0")
        if mark and name == b"escape":
            return _told(successes(Target.read(words)))
        while mark and name == b"chatter":
            send(wire.Count(1, 8).pack())
        usual = Attempt.is_over, Attempt.found
        if mark:
            FAULTS[name.decode()]()
        try:
            return real(setup, request, fds, send)
        finally:
            Attempt.is_over, Attempt.found = usual  # pyright: ignore[reportAttributeAccessIssue]

    child._work = work  # pyright: ignore[reportPrivateUsage] - as above
    child.main()


def _told(names: Sequence[str]) -> wire.Reply:
    """Through the door that frames take."""
    facts = VideoFacts(1, 1, 1, 1.0, 1.0, 0, "", "mp4", has_audio=False)
    return replace(wire.Reply(facts), jpegs=tuple(name.encode() for name in names))


def _fail(*_: object, **__: object) -> NoReturn:
    raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))


if __name__ == "__main__":
    main(sys.argv[1:])
