import numpy as np
import pytest

from lab.statistics import (
    Answers,
    Share,
    holm,
    is_equivalent,
    mcnemar,
    mean_difference,
    mean_share,
    share,
    sign_test,
)


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


def coin(seed: int, share: float, shape: tuple[int, int] = (400, 2)) -> Answers:
    return (np.random.default_rng(seed).random(shape) < share).astype(float)


def test_a_mean_over_seeds_has_the_binomial_interval_where_seeds_agree() -> None:
    result = mean_share([coin(0, 0.5)])
    assert (result.low, result.high) == pytest.approx((0.46, 0.54), abs=0.03)
    assert result.count == 800


def test_seeds_that_disagree_widen_the_interval() -> None:
    agreed = mean_share([coin(seed, 0.7) for seed in range(3)])
    disagreed = mean_share([coin(seed, share) for seed, share in enumerate((0.5, 0.7, 0.9))])
    assert disagreed.high - disagreed.low > 2 * (agreed.high - agreed.low)


def test_a_difference_is_paired_by_scene() -> None:
    hard = coin(0, 0.5)
    better = np.maximum(hard, coin(1, 0.05))
    paired = mean_difference([better], [hard])
    assert 0 < paired.low < paired.value < paired.high < 0.06
    apart = mean_share([better]).high - mean_share([better]).low
    assert paired.high - paired.low < apart


def test_one_result_is_compared_with_every_seed() -> None:
    difference = mean_difference([coin(0, 0.9), coin(1, 0.9)], [coin(2, 0.5)])
    assert difference.value == pytest.approx(0.4, abs=0.05)


@pytest.mark.parametrize(
    ("low", "high", "expected"), [(-0.01, 0.01, True), (-0.03, 0.01, False), (0.0, 0.02, False)]
)
def test_equivalence_needs_the_whole_interval_within_the_margin(
    low: float, high: float, expected: bool
) -> None:
    assert is_equivalent(Share(0.0, low, high, 10), 0.02) == expected


def test_the_sign_test_counts_coin_tosses() -> None:
    assert sign_test(3, 0) == 1 / 8
    assert sign_test(2, 1) == 0.5
    assert sign_test(0, 0) == 1.0


def test_mcnemar_looks_at_disagreements_alone() -> None:
    ours = np.array([True] * 10 + [False] * 90)
    theirs = np.array([False] * 10 + [False] * 90)
    assert mcnemar(ours, theirs) == 2 / 2**10
    assert mcnemar(ours, ours) == 1.0


def test_holm_multiplies_the_smallest_most_and_keeps_the_order() -> None:
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03}) == pytest.approx({"a": 0.03, "c": 0.06, "b": 0.06})
