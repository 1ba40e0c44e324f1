import pytest

from bt_model.training.statistics import share


def test_a_share_counts_answers_not_scenes() -> None:
    result = share({"a": [True, True, True], "b": [False]})
    assert (result.value, result.count) == (0.75, 4)


def test_one_sided_results_have_no_spread() -> None:
    result = share({str(n): [True] for n in range(10)})
    assert (result.low, result.value, result.high) == (1.0, 1.0, 1.0)


def test_the_interval_of_independent_answers_is_the_binomial_one() -> None:
    result = share({str(n): [n % 2 == 0] for n in range(400)})
    assert (result.low, result.high) == pytest.approx((0.451, 0.549), abs=0.006)


def test_answers_about_one_scene_are_not_independent() -> None:
    together = share({str(n): [n % 2 == 0] * 10 for n in range(40)})
    apart = share({f"{n} {k}": [n % 2 == 0] for n in range(40) for k in range(10)})
    assert together.high - together.low > 2 * (apart.high - apart.low)


def test_equal_seeds_give_equal_intervals() -> None:
    right = {str(n): [n % 3 == 0] for n in range(50)}
    assert share(right, seed=1) == share(right, seed=1)
    assert share(right, seed=1) != share(right, seed=2)


def test_a_share_prints_its_interval_and_count() -> None:
    assert str(share({"a": [True, False]})) == "0.500 [0.500, 0.500] (n = 2)"
