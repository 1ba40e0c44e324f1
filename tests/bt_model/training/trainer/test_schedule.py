"""How the learning rate rises and falls."""

import math

import pytest

from bt_model.training.trainer.optimiser import Schedule


def test_the_rate_warms_up_and_falls_to_a_tenth() -> None:
    schedule = Schedule(num_steps=100, learning_rate=1.0)
    factors = [schedule.factor(step) for step in range(100)]
    assert factors[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert factors[5:] == sorted(factors[5:], reverse=True)
    assert factors[-1] == pytest.approx(0.1, abs=1e-3)


def test_the_published_rate_rises_for_half_an_epoch_and_ends_at_97_percent() -> None:
    schedule = Schedule(6010, 1.0, warmup=0.5, warmup_from=0.05, period=4.5, floor=0.0)
    factors = [schedule.factor(step) for step in range(6010)]
    assert factors[0] == pytest.approx(0.05)
    assert factors[1502] == pytest.approx(0.525, abs=1e-3)
    assert factors[3004] == factors[3005] == max(factors) == 1.0
    assert factors[-1] == pytest.approx(0.970, abs=5e-4)
    assert factors[5000] == pytest.approx(0.5 * (1 + math.cos(math.pi * (5000 - 3005) / (4.5 * 6010))))


def test_the_rate_stays_at_its_floor_behind_the_half_cosine() -> None:
    schedule = Schedule(100, 1.0, warmup=0.1, period=0.5, floor=0.2)
    assert [schedule.factor(step) for step in (60, 80, 99)] == pytest.approx([0.2] * 3)
