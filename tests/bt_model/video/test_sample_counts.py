"""How many frames there are: of short videos, of a rate with a bound, and of a model that merges pairs."""

from bisect import bisect_right
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bt_model.errors import InvalidValueError
from bt_model.types import MAX_FRAMES, STRATEGIES, Sampling, Strategy
from bt_model.video.sample import choose_frames, published, rounded_down, rounding_warnings, uniform

TABLE = 64  # rows of the published branch's time table
ONCE: tuple[Strategy, ...] = ("uniform", "uniform_time")

gaps = st.lists(st.sampled_from([0.01, 0.04, 0.5, 7.0]), min_size=1, max_size=300)
"""Seconds from each frame to the next, as a screen recorder writes them."""


def shown_at(pauses: list[float]) -> list[float]:
    return [sum(pauses[:i]) for i in range(len(pauses))]


@pytest.mark.parametrize("strategy", ONCE)
@pytest.mark.parametrize("total", [1, 2, 3, 5, 8])
def test_of_no_more_frames_than_asked_for_each_is_taken_once(total: int, strategy: Strategy) -> None:
    choice = choose_frames(total, Sampling(num_frames=8, strategy=strategy), 25, 8)
    assert choice.indices == tuple(range(total))


def test_the_published_rule_takes_the_first_of_two_frames_twice() -> None:
    assert choose_frames(2, Sampling(num_frames=8, strategy="published"), 25, 8).indices == (0, 0)


@given(total=st.integers(1, 5000), count=st.integers(1, MAX_FRAMES))
def test_uniform_is_the_published_rule_wherever_that_takes_no_frame_twice(total: int, count: int) -> None:
    rule = published(total, count)
    assert (uniform(total, count) == rule) == (len(set(rule)) == min(total, count))


@given(pauses=gaps, count=st.integers(1, MAX_FRAMES), strategy=st.sampled_from(ONCE), data=st.data())
def test_as_many_frames_as_there_are_in_order_each_once_and_in_the_window(
    pauses: list[float], count: int, strategy: Strategy, data: st.DataObject
) -> None:
    times = shown_at(pauses)
    start = data.draw(st.sampled_from([None, *times]))
    end = data.draw(st.sampled_from([None, *(time + 0.005 for time in times if time >= (start or 0))]))
    sampling = Sampling(num_frames=count, start=start, end=end, strategy=strategy)
    indices = choose_frames(len(times), sampling, 25, 8, times).indices
    inside = [i for i, t in enumerate(times) if t > (start or 0) - 1e-6 and (end is None or t < end - 1e-6)]
    assert list(indices) == sorted(set(indices))
    assert set(indices) <= set(inside)
    assert len(indices) == min(count, len(inside))


@given(pauses=gaps, rate=st.sampled_from([0.3, 1, 7, 30, 240]), most=st.integers(1, MAX_FRAMES))
def test_a_rate_with_a_bound_gives_its_frames_or_the_bound_spread_in_time(
    pauses: list[float], rate: float, most: int
) -> None:
    times = shown_at(pauses)
    fps = len(pauses) / sum(pauses)
    seconds = times[-1] + 1 / fps
    ticks = [i / rate for i in range(int(seconds * rate) + 2) if i == 0 or i < seconds * rate - 1e-6]
    every = sorted({bisect_right(times, tick + 1e-6) - 1 for tick in ticks})
    got = choose_frames(len(times), Sampling(fps=rate, max_frames=most), fps, 8, times).indices
    spread = choose_frames(
        len(times), Sampling(num_frames=most, strategy="uniform_time"), fps, 8, times
    ).indices
    assert list(got) == (every if len(every) <= most else list(spread))


def test_a_bounded_rate_takes_any_length_of_video() -> None:
    choice = choose_frames(25 * 7200, Sampling(fps=240, max_frames=16), 25, 8)
    assert len(choice.indices) == 16
    assert choice.indices[0] == 25 * 7200 // 32


def test_a_rate_that_gives_too_many_frames_names_the_bound_as_a_way_out() -> None:
    with pytest.raises(InvalidValueError, match=r"or any rate with sampling\.max_frames"):
        choose_frames(25 * 600, Sampling(fps=1), 25, 8)


@given(total=st.integers(1, 300), count=st.integers(1, MAX_FRAMES), strategy=st.sampled_from(STRATEGIES))
def test_a_number_that_the_model_cannot_take_is_one_less_spread_anew(
    total: int, count: int, strategy: Strategy
) -> None:
    free = Sampling(num_frames=count, strategy=strategy, seed=1)
    wanted = choose_frames(total, free, 25, 8).indices
    choice = choose_frames(total, replace(free, even_above=TABLE), 25, 8)
    assert choice.num_wanted == len(wanted)
    assert len(choice.indices) == rounded_down(len(wanted), TABLE)
    assert (
        choice.indices == choose_frames(total, replace(free, num_frames=len(choice.indices)), 25, 8).indices
    )


@pytest.mark.parametrize(
    ("count", "even_above", "expected"),
    [
        (63, 64, 63),
        (64, 64, 64),
        (65, 64, 64),
        (66, 64, 66),
        (127, 64, 126),
        (3, 0, 2),
        (1, 0, 0),
        (127, 128, 127),
        (7, 7, 7),
    ],
)
def test_above_the_bound_an_even_number_is_taken(count: int, even_above: int, expected: int) -> None:
    assert rounded_down(count, even_above) == expected


@pytest.mark.parametrize(
    ("asked", "total"),
    [
        ({}, 71),  # a default of 100 that nobody chose
        ({"num_frames": 71}, 300),
        ({"fps": 1}, 71 * 25),
        ({"fps": 25, "max_frames": 71}, 300),
        ({"start": 1.0}, 96),
    ],
)
def test_an_odd_number_above_the_bound_however_it_comes_about_is_rounded_down(
    asked: dict[str, Any], total: int
) -> None:
    choice = choose_frames(total, Sampling(**asked, even_above=TABLE), 25, 100)
    assert (len(choice.indices), choice.num_wanted) == (70, 71)
    assert choice.indices[-1] > total * 0.97
    (warning,) = rounding_warnings(70, 71)
    assert "70 frames are used, not 71" in warning


def test_who_gets_what_he_asked_for_is_not_warned() -> None:
    assert rounding_warnings(70, 70) == []


@pytest.mark.parametrize(
    ("asked", "param"), [({"num_frames": 8}, "num_frames"), ({"fps": 1, "max_frames": 8}, "fps")]
)
def test_one_frame_for_a_model_of_even_numbers_alone_is_refused(asked: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidValueError, match="2 or more for this model; strategy 'middle'") as caught:
        choose_frames(1, Sampling(**asked, even_above=0), 25, 8)
    assert caught.value.param == f"sampling.{param}"
    twice = Sampling(num_frames=2, strategy="middle", even_above=0)
    assert choose_frames(1, twice, 25, 8).indices == (0, 0)
