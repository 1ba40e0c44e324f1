"""Frames at equal steps of time, of videos whose frames come when something changes."""

from bisect import bisect_right
from itertools import accumulate, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bt_model.errors import InvalidValueError
from bt_model.types import Sampling
from bt_model.video.sample import choose_frames

# a screen recording: bursts of ten frames a second, pauses between
RECORDING = [0.0, *(1.4 + i / 10 for i in range(40)), 11.9, *(16.8 + i / 10 for i in range(15))]
BY_TIME = Sampling(num_frames=8, strategy="uniform_time")


def test_at_a_constant_rate_frames_are_the_middles_of_equal_parts() -> None:
    assert choose_frames(80, BY_TIME, 10, 8).indices == (5, 15, 25, 35, 45, 55, 65, 75)


def test_a_pause_has_its_share_of_time_and_not_of_frames() -> None:
    times = [*(i / 10 for i in range(90)), 9.0, 19.0, 29.0]  # 39 seconds with the last frame's own
    got = choose_frames(93, Sampling(num_frames=4, strategy="uniform_time"), 0.1, 8, times).indices
    assert [times[i] for i in got] == [4.8, 9.0, 19.0, 29.0]


def middles(times: list[float], fps: float, count: int) -> set[int]:
    """The slow definition: what a player shows in the middle of each part."""
    seconds = times[-1] + 1 / fps
    spots = [seconds * (i + 0.5) / count for i in range(count)]
    return {max(i for i, time in enumerate(times) if time <= spot + 1e-6) for spot in spots}


@given(
    steps=st.lists(st.sampled_from([0.0625, 0.25, 4.0]), min_size=1, max_size=120),
    count=st.integers(1, 60),
)
def test_what_is_on_screen_in_each_middle_is_taken_and_nothing_else_while_that_is_enough(
    steps: list[float], count: int
) -> None:
    times = [0.0, *accumulate(steps)]
    fps = len(times) / (times[-1] + 0.1)
    got = choose_frames(
        len(times), Sampling(num_frames=count, strategy="uniform_time"), fps, 8, times
    ).indices
    wanted = middles(times, fps, count)
    assert wanted <= set(got) or len(got) == len(times)
    if len(wanted) == count:
        assert set(got) == wanted


def test_a_long_still_picture_is_taken_once_and_the_rest_fill_the_longest_gaps() -> None:
    times = [0.0, *(10 + i / 25 for i in range(100))]
    got = choose_frames(101, BY_TIME, 25, 8, times).indices
    assert got[0] == 0
    assert middles(times, 25, 8) <= set(got)
    # seven frames of four seconds: no second of them is left out
    assert max(b - a for a, b in pairwise((*got, 101))) <= 25


@given(
    steps=st.lists(st.sampled_from([0.0625, 0.25, 4.0]), min_size=3, max_size=60), count=st.integers(2, 40)
)
def test_what_fills_a_gap_is_the_frame_farthest_from_all_others(steps: list[float], count: int) -> None:
    times = [0.0, *accumulate(steps)]
    fps = len(times) / (times[-1] + 0.1)
    got = choose_frames(len(times), Sampling(num_frames=count, strategy="uniform_time"), fps, 8, times)
    taken = middles(times, fps, count)
    while len(taken) < min(count, len(times)):
        left = [i for i in range(len(times)) if i not in taken]
        far = {i: min(abs(times[i] - times[j]) for j in taken) for i in left}
        taken.add(max(i for i in left if far[i] == max(far.values())))
    assert set(got.indices) == taken


def test_a_window_is_divided_by_its_own_seconds() -> None:
    window = Sampling(num_frames=4, start=1.4, end=5.4, strategy="uniform_time")
    got = choose_frames(len(RECORDING), window, 3, 8, RECORDING).indices
    assert [round(RECORDING[i], 6) for i in got] == [1.9, 2.9, 3.9, 4.9]


def test_a_recording_is_shown_through_its_pauses() -> None:
    got = choose_frames(len(RECORDING), BY_TIME, 3, 8, RECORDING).indices
    seconds = RECORDING[-1] + 1 / 3
    assert {bisect_right(RECORDING, seconds * (i + 0.5) / 8) - 1 for i in range(8)} <= set(got)
    assert len(set(got)) == 8
    assert RECORDING[got[-1]] > 16.8


def test_a_video_that_begins_late_is_divided_from_its_first_picture_on() -> None:
    times = [2 + i / 10 for i in range(80)]
    assert choose_frames(80, BY_TIME, 10, 8, times).indices == (5, 15, 25, 35, 45, 55, 65, 75)


@pytest.mark.parametrize(
    "sampling", [Sampling(fps=2, start=3, end=6), Sampling(strategy="uniform_time", start=3, end=6)]
)
def test_a_picture_that_stays_for_all_of_a_window_is_taken(sampling: Sampling) -> None:
    times = [0.0, 1.0, 2.0, 7.1]
    assert choose_frames(4, sampling, 1.0, 8, times, 8.0).indices == (2,)
    with pytest.raises(InvalidValueError, match="no frame begins"):
        choose_frames(4, Sampling(num_frames=2, start=3, end=6), 1.0, 8, times, 8.0)
