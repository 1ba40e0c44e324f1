"""Which moments of a film are found from the fits of its windows, in the process that never loads torch."""

import itertools
import subprocess
import sys

import numpy as np
import pytest
from numpy.typing import NDArray

from bt_model.errors import InvalidValueError
from bt_model.search.moments import Moment, find_moments
from bt_model.search.windows import WindowPlan

PLAN = WindowPlan(fps=2.0, length=8, stride=1)  # windows of 4 s
SECONDS = 300.0
NUM = PLAN.num_windows(SECONDS)


def film(*events: tuple[float, float, float], noise: float = 0.0) -> NDArray[np.float32]:
    """Fits of a film with events (begin, end, height): each window fits by how much of it an event fills."""
    fits = np.random.default_rng(0).normal(0, noise, NUM) if noise else np.zeros(NUM)
    for number in range(NUM):
        start, end = PLAN.span(number, SECONDS)
        for begin, stop, height in events:
            inside = max(min(end, stop) - max(start, begin), 0.0)
            fits[number] += height * inside / (end - start)
    return fits.astype(np.float32)


def spans(moments: list[Moment]) -> list[tuple[float, float]]:
    return [(moment.start, moment.end) for moment in moments]


def test_an_event_is_found_where_it_is() -> None:
    (moment,) = find_moments(film((100.0, 104.0, 0.3)), PLAN, SECONDS, 1)
    assert (moment.start, moment.end) == (100.0, 104.0)
    assert moment.score > 0.9


def test_moments_come_best_first_and_do_not_repeat_one_event() -> None:
    fits = film((100.0, 104.0, 0.2), (30.0, 34.0, 0.3), (200.0, 204.0, 0.25))
    assert spans(find_moments(fits, PLAN, SECONDS, 3)) == [(30.0, 34.0), (200.0, 204.0), (100.0, 104.0)]


def test_an_event_longer_than_a_window_is_one_moment() -> None:
    (moment, other) = find_moments(film((100.0, 112.0, 0.3), (200.0, 204.0, 0.25)), PLAN, SECONDS, 2)
    assert (moment.start, moment.end) == pytest.approx((100.0, 112.0), abs=1.0)
    assert (other.start, other.end) == (200.0, 204.0)


def test_two_events_in_a_row_that_fit_differently_are_two_moments() -> None:
    found = find_moments(film((100.0, 104.0, 0.3), (104.0, 108.0, 0.15)), PLAN, SECONDS, 1)
    assert spans(found) == [(100.0, 104.0)]


def test_one_window_of_noise_does_not_beat_an_event() -> None:
    fits = film((100.0, 104.0, 0.2))
    fits[400] = 0.25
    assert spans(find_moments(fits, PLAN, SECONDS, 1)) == [(100.0, 104.0)]


def test_what_happens_twice_shares_its_score() -> None:
    first, second = find_moments(film((50.0, 54.0, 0.3), (150.0, 154.0, 0.3)), PLAN, SECONDS, 2)
    assert first.score == pytest.approx(second.score, abs=0.01)
    assert 0.4 < first.score < 0.5


def test_scores_say_how_much_a_moment_stands_out() -> None:
    sure, unsure, lost = (
        find_moments(film((100.0, 104.0, height), noise=0.01), PLAN, SECONDS, 1)[0].score
        for height in (0.3, 0.06, 0.0)
    )
    assert 1 >= sure > 0.9 > unsure > 0.2 > lost


def test_scores_of_a_film_add_up_to_one_at_most() -> None:
    found = find_moments(film((100.0, 104.0, 0.05), noise=0.02), PLAN, SECONDS, 100)
    assert 0.9 < sum(moment.score for moment in found) <= 1 + 1e-9
    starts = sorted(spans(found))
    assert all(other[0] - one[0] >= 3.0 for one, other in itertools.pairwise(starts))


def test_scores_do_not_depend_on_where_cosines_lie() -> None:
    fits = film((100.0, 104.0, 0.2), noise=0.01)
    one, other = (find_moments(each, PLAN, SECONDS, 3) for each in (fits, fits - 0.7))
    assert spans(one) == spans(other)
    assert [m.score for m in one] == pytest.approx([m.score for m in other], abs=1e-3)


def test_a_film_of_one_window_is_one_moment() -> None:
    (moment,) = find_moments(np.array([0.2], np.float32), PLAN, 1.5)
    assert (moment.start, moment.end, moment.score) == (0.0, 1.5, 1.0)
    assert moment.fit == pytest.approx(0.2)


def test_the_rest_of_a_scene_that_almost_fits_is_no_part_of_its_event() -> None:
    fits = film((100.0, 104.0, 0.05), (90.0, 110.0, 0.3))
    assert spans(find_moments(fits, PLAN, SECONDS, 1)) == [(100.0, 104.0)]


def test_a_film_that_fits_everywhere_is_one_moment() -> None:
    (moment,) = find_moments(np.full(NUM, 0.2, np.float32), PLAN, SECONDS, 1)
    assert moment.end - moment.start > SECONDS - 8


@pytest.mark.parametrize(
    ("fits", "most", "message"),
    [
        (np.zeros(NUM - 1, np.float32), 1, r"fits is \(592,\); allowed: \(593,\)"),
        (np.zeros((NUM, 1), np.float32), 1, r"allowed: \(593,\), one for each window"),
        (np.zeros(NUM, np.float32), 0, "most is 0; allowed: 1 to 100"),
        (np.zeros(NUM, np.float32), 101, "most is 101; allowed: 1 to 100"),
    ],
)
def test_what_no_film_has_is_refused(fits: NDArray[np.float32], most: int, message: str) -> None:
    with pytest.raises(InvalidValueError, match=message):
        find_moments(fits, PLAN, SECONDS, most)


def test_neither_windows_nor_moments_load_torch() -> None:
    code = "import sys, bt_model.search.moments, bt_model.search.windows; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
