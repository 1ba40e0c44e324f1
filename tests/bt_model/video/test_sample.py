"""The samplers against the published tables, and the bounds on what a request can ask for."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bt_model.errors import InvalidValueError
from bt_model.types import MAX_FRAMES, STRATEGIES, Sampling, Strategy
from bt_model.video.sample import (
    SAMPLERS,
    choose_frames,
    middle,
    published,
    retrieval_test,
    segment_bounds,
    uniform,
)
from tests.golden import golden_table


def _indices(*asked: Any) -> tuple[int, ...]:
    return choose_frames(*asked).indices


@pytest.fixture(scope="module")
def table() -> dict[str, list[dict[str, Any]]]:
    return golden_table("sampler")


def test_every_strategy_has_its_sampler() -> None:
    assert tuple(SAMPLERS) == STRATEGIES


def test_the_page_of_the_api_names_every_strategy() -> None:
    page = Path(__file__).parents[3] / "docs" / "api.md"
    chapter = page.read_text(encoding="utf-8").split("## Sampling\n")[1].split("\n## ")[0]
    assert [name for name in STRATEGIES if f"`{name}`" not in chapter] == []


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_largest_count_is_given_in_full(strategy: Strategy) -> None:
    indices = _indices(1000, Sampling(num_frames=MAX_FRAMES, strategy=strategy), 25, 8)
    assert len(indices) == MAX_FRAMES == 128


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_sampler_says_what_short_videos_give_and_whether_the_seed_matters(strategy: Strategy) -> None:
    sampler = SAMPLERS[strategy]
    few = _indices(5, Sampling(num_frames=8, strategy=strategy), 25, 8)
    assert len(few) == (5 if sampler.gives_fewer else 8)
    drawn = {_indices(1000, Sampling(num_frames=8, strategy=strategy, seed=n), 25, 8) for n in range(5)}
    assert (len(drawn) > 1) == sampler.uses_seed


def test_published_equals_the_published_chat_sampler(table: dict[str, list[dict[str, Any]]]) -> None:
    for case in table["chat_inference"]:
        assert published(case["total"], case["wanted"]) == case["indices"]


def test_retrieval_equals_the_published_test_sampler(table: dict[str, list[dict[str, Any]]]) -> None:
    for case in table["retrieval_test"]:
        assert retrieval_test(case["total"], case["clip_len"]) == case["indices"]


def test_middle_equals_the_published_feature_extraction(table: dict[str, list[dict[str, Any]]]) -> None:
    for case in table["feature_extraction"]:
        assert middle(case["total"], case["num_clips"]) == case["indices"]


def test_random_bounds_equal_the_published_training_sampler(table: dict[str, list[dict[str, Any]]]) -> None:
    for case in table["retrieval_train"]:
        bounds = segment_bounds(case["total"], case["clip_len"])
        assert [low for low, _ in bounds] == case["low_inclusive"]
        assert [high for _, high in bounds] == case["high_inclusive"]


def test_a_draw_between_the_bounds_equals_the_published_draw(table: dict[str, list[dict[str, Any]]]) -> None:
    for case in table["retrieval_train"]:
        draw = np.random.RandomState(case["example_numpy_seed"])
        bounds = segment_bounds(case["total"], case["clip_len"])
        assert [int(draw.randint(low, high + 1)) for low, high in bounds] == case["example"]


def test_the_default_count_is_used_where_nothing_is_asked_for() -> None:
    assert _indices(100, Sampling(), 25.0, 4) == tuple(uniform(100, 4))


def test_a_seed_gives_the_same_random_frames_again() -> None:
    sampling = Sampling(num_frames=16, strategy="random", seed=7)
    assert _indices(500, sampling, 25.0, 8) == _indices(500, sampling, 25.0, 8)


def test_another_seed_gives_other_random_frames() -> None:
    one, two = (Sampling(num_frames=16, strategy="random", seed=seed) for seed in (1, 2))
    assert _indices(500, one, 25.0, 8) != _indices(500, two, 25.0, 8)


def test_one_frame_a_second_is_the_frame_on_screen_at_each_second() -> None:
    assert _indices(100, Sampling(fps=1), 25.0, 8) == (0, 25, 50, 75)


def test_a_rate_above_the_source_gives_each_frame_once() -> None:
    assert _indices(10, Sampling(fps=240), 25.0, 8) == tuple(range(10))


def test_a_rate_follows_the_real_times_of_a_variable_rate() -> None:
    times = [0.0, 0.1, 0.2, 0.3, 2.0, 4.0]
    assert _indices(6, Sampling(fps=1), 1.5, 8, times) == (0, 3, 4, 5)


def test_a_window_keeps_the_indices_of_the_whole_file() -> None:
    assert _indices(100, Sampling(num_frames=100, start=1, end=2), 25.0, 8) == tuple(
        25 + i for i in uniform(25, 100)
    )


def test_a_window_takes_frames_from_start_on_and_before_end() -> None:
    sampling = Sampling(fps=240, start=0.4, end=0.8)
    assert _indices(100, sampling, 10.0, 8) == (4, 5, 6, 7)


def test_a_window_of_a_variable_rate_goes_by_real_times() -> None:
    times = [0.0, 0.1, 0.2, 5.0, 5.1, 5.2]
    got = _indices(6, Sampling(num_frames=6, start=4.0), 1.0, 8, times)
    assert got == tuple(3 + i for i in uniform(3, 6))


def test_a_window_behind_the_end_names_start_and_duration() -> None:
    with pytest.raises(InvalidValueError, match="4 s") as caught:
        _indices(100, Sampling(start=4.0), 25.0, 8)
    assert caught.value.param == "sampling.start"


def test_a_window_between_two_frames_names_end() -> None:
    with pytest.raises(InvalidValueError, match="no frame begins") as caught:
        _indices(10, Sampling(start=0.1, end=0.9), 1.0, 8)
    assert caught.value.param == "sampling.end"


def test_a_window_that_ends_behind_the_video_stops_with_it() -> None:
    assert _indices(10, Sampling(fps=1, start=8, end=60), 1.0, 8) == (8, 9)


def test_a_rate_that_gives_too_many_frames_is_refused() -> None:
    with pytest.raises(InvalidValueError, match="fps up to") as caught:
        _indices(25 * 600, Sampling(fps=1), 25.0, 8)
    assert caught.value.param == "sampling.fps"


def test_the_largest_rate_that_a_refusal_names_is_accepted() -> None:
    with pytest.raises(InvalidValueError) as caught:
        _indices(25 * 600, Sampling(fps=1), 25.0, 8)
    largest = float(caught.value.message.split("fps up to ")[1].split()[0])
    assert len(_indices(25 * 600, Sampling(fps=largest), 25.0, 8)) <= MAX_FRAMES


def test_a_rate_with_another_strategy_is_refused() -> None:
    with pytest.raises(InvalidValueError, match="uniform"):
        _indices(100, Sampling(fps=1, strategy="random"), 25.0, 8)


@pytest.mark.parametrize(("total", "fps"), [(0, 25.0), (-1, 25.0), (10, 0.0), (10, float("nan"))])
def test_a_video_without_frames_or_rate_is_refused(total: int, fps: float) -> None:
    with pytest.raises(InvalidValueError):
        _indices(total, Sampling(), fps, 8)


def test_a_default_count_above_the_bound_is_refused() -> None:
    with pytest.raises(InvalidValueError, match="num_frames"):
        _indices(1000, Sampling(), 25.0, MAX_FRAMES + 1)


@given(
    total=st.integers(1, 100_000),
    count=st.integers(1, MAX_FRAMES),
    strategy=st.sampled_from(STRATEGIES),
    seed=st.integers(0, 9),
)
def test_every_sampler_stays_inside_the_file_and_never_goes_back(
    total: int, count: int, strategy: Any, seed: int
) -> None:
    indices = _indices(total, Sampling(num_frames=count, strategy=strategy, seed=seed), 25.0, 8)
    assert 0 < len(indices) <= MAX_FRAMES
    assert all(0 <= i < total for i in indices)
    assert list(indices) == sorted(indices)
