"""Bounds of what a caller may ask for, at each bound and just beyond it."""

import math
from dataclasses import replace
from typing import Any

import pytest

from bt_model.errors import InvalidValueError
from bt_model.types import (
    MAX_FPS,
    MAX_FRAMES,
    STRATEGIES,
    GenerateOptions,
    Sampling,
)


def test_the_bounds_are_those_of_the_api() -> None:
    assert (MAX_FRAMES, MAX_FPS) == (128, 240)


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"num_frames": 1},
        {"num_frames": 128},
        {"fps": 1e-6},
        {"fps": 240.0},
        {"start": 0.0},
        {"end": 0.1},
        {"start": 2.0, "end": 2.1},
        {"strategy": "random", "seed": -5},
    ],
)
def test_a_sampling_at_a_bound_is_taken(given: dict[str, Any]) -> None:
    sampling = Sampling(**given)
    assert {name: getattr(sampling, name) for name in given} == given


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"num_frames": 0}, "sampling.num_frames is 0; allowed: 1 to 128"),
        ({"num_frames": 129}, "sampling.num_frames is 129; allowed: 1 to 128"),
        ({"fps": 0.0}, "sampling.fps is 0.0; allowed: above 0, up to 240"),
        ({"fps": 240.1}, "sampling.fps is 240.1; allowed: above 0, up to 240"),
        ({"fps": math.nan}, "sampling.fps is nan; allowed: above 0, up to 240"),
        ({"fps": -math.inf}, "sampling.fps is -inf; allowed: above 0, up to 240"),
        ({"start": -0.1}, "sampling.start is -0.1; allowed: seconds, 0 or more"),
        ({"start": math.inf}, "sampling.start is inf; allowed: seconds, 0 or more"),
        ({"end": math.nan}, "sampling.end is nan; allowed: seconds, 0 or more"),
        ({"end": 0.0}, "sampling.end is 0.0; allowed: more than start"),
        ({"start": 2.0, "end": 2.0}, "sampling.end is 2.0; allowed: more than start"),
        (
            {"strategy": "wisest"},
            f"sampling.strategy is 'wisest'; allowed: {', '.join(STRATEGIES)}",
        ),
        ({"fps": 2.0, "max_frames": 129}, "sampling.max_frames is 129; allowed: 1 to 128"),
        ({"max_frames": 8}, "sampling.max_frames is 8; allowed: with sampling.fps only"),
        ({"num_frames": 8, "fps": 2.0}, "sampling is 'num_frames=8, fps=2.0'; allowed: one of the two"),
    ],
)
def test_a_sampling_beyond_a_bound_is_refused_by_its_field(given: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidValueError) as caught:
        Sampling(**given)
    assert (caught.value.message, caught.value.param) == (message, message.split(" is ", maxsplit=1)[0])


SEED = 9_223_372_036_854_776_000
RANGES = [
    ("max_tokens", 1, 4096, 0, 4097, "1 to 4096"),
    ("temperature", 0.0, 2.0, -0.1, 2.1, "0.0 to 2.0"),
    ("top_p", 1e-9, 1.0, 0.0, 1.1, "above 0.0 to 1.0"),
    ("top_k", 0, 1_000_000, -1, 1_000_001, "0 to 1000000"),
    ("min_p", 0.0, 1.0, -0.1, 1.1, "0.0 to 1.0"),
    ("presence_penalty", -2.0, 2.0, -2.1, 2.1, "-2.0 to 2.0"),
    ("frequency_penalty", -2.0, 2.0, -2.1, 2.1, "-2.0 to 2.0"),
    ("repetition_penalty", 0.01, 10.0, 0.009, 10.1, "0.01 to 10.0"),
    ("seed", -SEED, SEED, -SEED - 1, SEED + 1, f"{-SEED} to {SEED}"),
]


@pytest.mark.parametrize(("name", "low", "high", "below", "above", "allowed"), RANGES)
def test_an_option_is_taken_up_to_its_bounds(
    name: str, low: float, high: float, below: float, above: float, allowed: str
) -> None:
    assert [getattr(GenerateOptions(**{name: value}), name) for value in (low, high)] == [low, high]  # pyright: ignore[reportArgumentType] - by name
    for value in (below, above, math.nan):
        with pytest.raises(InvalidValueError) as caught:
            GenerateOptions(**{name: value})  # pyright: ignore[reportArgumentType] - by name
        assert caught.value.message == f"{name} is {value!r}; allowed: {allowed}"
        assert caught.value.param == name


@pytest.mark.parametrize("stop", [(), ("a", "b", "c", "d"), ("x" * 256,), ("\ud7ff", "\ue000", "🎬")])
def test_stop_strings_are_taken_up_to_their_bounds(stop: tuple[str, ...]) -> None:
    assert GenerateOptions(stop=stop).stop == stop


@pytest.mark.parametrize(
    "stop", [("a", "b", "c", "d", "e"), ("x" * 257,), ("",), ("a", "\ud800"), ("\udfff",)]
)
def test_stop_strings_beyond_their_bounds_are_refused(stop: tuple[str, ...]) -> None:
    with pytest.raises(InvalidValueError, match="allowed: up to 4 strings of 1 to 256 characters") as caught:
        GenerateOptions(stop=stop)
    assert caught.value.param == "stop"


GIVEN = GenerateOptions(
    max_tokens=1, temperature=0.0, top_p=0.5, top_k=0, min_p=0.0, repetition_penalty=1.0,
    presence_penalty=0.0, frequency_penalty=0.0, ignore_eos=False, seed=0, stop=("a",),
)  # fmt: skip
DEFAULTS = GenerateOptions(
    max_tokens=2, temperature=1.0, top_p=0.25, top_k=7, min_p=0.1, repetition_penalty=1.5,
    presence_penalty=0.5, frequency_penalty=-0.5, ignore_eos=True, seed=9, stop=("b",),
)  # fmt: skip


@pytest.mark.parametrize("name", [*(name for name, *_ in RANGES), "ignore_eos"])
def test_what_is_not_given_comes_from_the_defaults(name: str) -> None:
    assert GIVEN.or_else(DEFAULTS) == GIVEN
    without = replace(GIVEN, **{name: None})
    assert without.or_else(DEFAULTS) == replace(GIVEN, **{name: getattr(DEFAULTS, name)})


def test_stop_strings_come_from_the_defaults_where_none_are_given() -> None:
    assert replace(GIVEN, stop=()).or_else(DEFAULTS) == replace(GIVEN, stop=("b",))
