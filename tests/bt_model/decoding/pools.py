"""What tests of decode pools look at: the pool's own children, and the files of this process."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bt_model.decoding.decoded import Decoded
from bt_model.decoding.pool import DecodePool
from bt_model.types import FrameSize, Sampling

SIZE = FrameSize(64, "squash")
FOUR = Sampling(num_frames=4)


def is_there(pid: int) -> bool:
    """Also where it is dead and nobody has waited for it."""
    return Path(f"/proc/{pid}").exists()


def seen(pid: int, what: str) -> str:
    return Path(f"/proc/{pid}/{what}").read_text()


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def pixels_of(frames: Decoded, size: FrameSize = SIZE) -> NDArray[np.uint8]:
    shape = (frames.num_frames, size.side, size.side, 3)
    memory = frames.memories[size]
    data = os.pread(memory, os.fstat(memory).st_size, 0)
    return np.frombuffer(data, np.uint8).reshape(shape)


def until(is_true: Callable[[], bool], seconds: float = 10) -> None:
    """Watch other processes and threads, which send no event."""
    deadline = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def until_ready(pool: DecodePool) -> None:
    until(lambda: pool.num_idle == pool.size)


def stop_child(pool: DecodePool) -> int:
    """Stop the pool's only child, so that whatever it is asked takes for ever."""
    (child,) = pool.pids
    os.kill(child, signal.SIGSTOP)
    return child


def kill_all(pool: DecodePool) -> None:
    """End every child; dead on return, but nobody has waited for them."""
    for child in pool.pids:
        os.kill(child, signal.SIGKILL)
        os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
