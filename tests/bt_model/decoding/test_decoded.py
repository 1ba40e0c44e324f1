"""Memory files for frames: what a child left in them is checked, and none is left open."""

import fcntl
import os
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


@pytest.fixture
def memories() -> Iterator[FrameMemories]:
    memories, before = FrameMemories(), open_files()
    memories.make(REQUEST)
    yield memories
    memories.close()
    assert open_files() == before


def fill(memories: FrameMemories, num_frames: int, seals: int = SEALS) -> None:
    """What an honest child does, but for the seals."""
    for size, memory in memories.items():
        os.ftruncate(memory, num_frames * 3 * size.side**2)
        fcntl.fcntl(memory, fcntl.F_ADD_SEALS, seals)


def test_sealed_memory_of_the_right_size_is_good(memories: FrameMemories) -> None:
    fill(memories, 3)
    memories.check(REQUEST, 3)
    assert tuple(memories) == SIZES


@pytest.mark.parametrize("seals", [0, *(SEALS & ~each for each in (2, 4, 8))])
def test_memory_that_can_still_be_changed_is_refused(memories: FrameMemories, seals: int) -> None:
    fill(memories, 3, seals)
    with pytest.raises(VideoError):
        memories.check(REQUEST, 3)


@pytest.mark.parametrize(("filled", "named"), [(3, 4), (4, 3), (0, 0)])
def test_memory_that_does_not_hold_the_frames_is_refused(
    memories: FrameMemories, filled: int, named: int
) -> None:
    fill(memories, filled)
    with pytest.raises(VideoError):
        memories.check(REQUEST, named)
