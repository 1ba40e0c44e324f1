"""Memory files for frames: what a child left in them is checked, and none is left open."""

import fcntl
import os
import resource
from collections.abc import Iterator

import pytest

from bt_model.decoding.decoded import FrameMemories
from bt_model.decoding.wire import Request
from bt_model.errors import VideoError
from bt_model.types import FrameSize, Sampling
from tests.bt_model.decoding.pools import open_files

SIZES = FrameSize(8), FrameSize(16)
REQUEST = Request("frames", Sampling(num_frames=4), SIZES)
SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


def fill(memories: FrameMemories, num_frames: int, seals: int = SEALS) -> None:
    """What an honest child does, but for the seals."""
    for size, memory in memories.by_size.items():
        os.ftruncate(memory, num_frames * 3 * size.side**2)
        fcntl.fcntl(memory, fcntl.F_ADD_SEALS, seals)


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    before = open_files()
    yield
    assert open_files() == before


def test_sealed_memory_of_the_right_size_is_handed_over() -> None:
    with FrameMemories(REQUEST) as memories:
        fill(memories, 3)
        by_size = memories.handed_over(3)
    assert tuple(by_size) == SIZES
    for memory in by_size.values():
        os.close(memory)


@pytest.mark.parametrize("seals", [0, *(SEALS & ~each for each in (2, 4, 8))])
def test_memory_that_can_still_be_changed_is_refused(seals: int) -> None:
    with FrameMemories(REQUEST) as memories:
        fill(memories, 3, seals)
        with pytest.raises(VideoError):
            memories.handed_over(3)


@pytest.mark.parametrize(("filled", "named"), [(3, 4), (4, 3), (0, 0)])
def test_memory_that_does_not_hold_the_frames_is_refused(filled: int, named: int) -> None:
    with FrameMemories(REQUEST) as memories:
        fill(memories, filled)
        with pytest.raises(VideoError):
            memories.handed_over(named)


def test_where_descriptors_run_out_none_is_left_open() -> None:
    free = os.dup(0)
    os.close(free)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free + 1, hard))
    try:
        with pytest.raises(OSError, match="Too many open files"):
            FrameMemories(REQUEST)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
