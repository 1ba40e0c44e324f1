"""Keys of a video's tokens: equal exactly where the tokens are."""

from contextlib import AsyncExitStack
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import pytest

from bt_model.errors import InvalidValueError
from bt_model.types import FrameSize, Sampling
from server.features.keys import canonical, check_frames, feature_key, for_models, shown
from server.uploads.receive import Received
from server.uploads.sources import InlineVideo
from server.uploads.token_folders import source_key
from tests.fakes import CARD, TWIN

FOUR = Sampling(num_frames=4)


def inline(tenant: str = "me", sha256: str = "ab" * 32) -> InlineVideo:
    return InlineVideo(Received(Path(), sha256, 0), tenant, AsyncExitStack())


VIDEO = inline()

SAME = {
    "a window from the very start": (replace(FOUR, start=0.0), FOUR),
    "a seed that nothing draws from": (replace(FOUR, seed=7), FOUR),
    "by time where the rate is by time": (Sampling(fps=2.0, strategy="uniform_time"), Sampling(fps=2.0)),
    "a limit that the number does not reach": (replace(FOUR, even_above=4), FOUR),
    "a limit that the rate cannot reach": (
        Sampling(fps=2.0, max_frames=4, even_above=4),
        Sampling(fps=2.0, max_frames=4),
    ),
    "whole numbers": (
        Sampling(fps=2, start=1, end=3, strategy="middle"),
        Sampling(fps=2.0, start=1.0, end=3.0, strategy="middle"),
    ),
}
DIFFERENT = (
    FOUR,
    Sampling(num_frames=5),
    Sampling(fps=4.0),
    Sampling(fps=4.0, max_frames=5),
    Sampling(fps=4.0, max_frames=5, even_above=4),
    Sampling(fps=4.0, even_above=4),
    replace(FOUR, even_above=3),
    replace(FOUR, start=0.5),
    replace(FOUR, end=0.5),
    replace(FOUR, strategy="published"),
    replace(FOUR, strategy="uniform_time"),
    replace(FOUR, strategy="middle"),
    replace(FOUR, strategy="random"),
    replace(FOUR, strategy="random", seed=1),
)


@pytest.mark.parametrize("name", SAME)
def test_samplings_of_the_same_frames_share_a_key_and_are_shown_alike(name: str) -> None:
    first, second = SAME[name]
    assert repr(canonical(first)) == repr(canonical(second))  # 1 and 1.0 are equal, but look different
    assert feature_key(VIDEO, first, CARD, "pyav") == feature_key(VIDEO, second, CARD, "pyav")


def test_samplings_of_other_frames_have_other_keys() -> None:
    keys = [feature_key(VIDEO, sampling, CARD, "pyav") for sampling in DIFFERENT]
    assert all(a != b for a, b in combinations(keys, 2))
    assert [canonical(sampling) for sampling in DIFFERENT] == list(DIFFERENT)


def test_whatever_changes_the_tokens_changes_the_key_and_nothing_else_does() -> None:
    key = feature_key(VIDEO, FOUR, CARD, "pyav")
    for card in (
        replace(CARD, fingerprint="0" * 16),
        replace(CARD, pooling="frames"),
        replace(CARD, frame_size=FrameSize(64, "crop")),
        replace(CARD, frame_size=FrameSize(32, "pad")),
    ):
        assert feature_key(VIDEO, FOUR, card, "pyav") != key
    assert feature_key(VIDEO, FOUR, CARD, "decord") != key
    assert feature_key(VIDEO, FOUR, replace(CARD, id=TWIN, notice="another name"), "pyav") == key


def test_keys_of_a_video_begin_with_its_own_and_with_no_others() -> None:
    own = source_key(VIDEO.tenant, VIDEO.sha256)
    assert all(feature_key(VIDEO, sampling, CARD, "pyav").startswith(own) for sampling in DIFFERENT)
    for other in (inline("you"), inline(sha256="cd" * 32)):
        assert not feature_key(other, FOUR, CARD, "pyav").startswith(own)


def test_the_models_default_is_taken_where_nothing_is_said() -> None:
    assert for_models(Sampling(), [CARD]) == Sampling(num_frames=CARD.default_frames)
    assert for_models(FOUR, [CARD]) == FOUR
    assert for_models(Sampling(fps=1.0), [CARD]) == Sampling(fps=1.0)


def test_of_several_models_the_strictest_decides_which_numbers_are_taken() -> None:
    cards = [replace(CARD, even_above=number) for number in (6, 2, 8)]
    assert for_models(FOUR, cards) == replace(FOUR, even_above=2)
    assert for_models(replace(FOUR, even_above=0), cards).even_above == 0  # asked for once more, by one alone


def test_what_is_shown_names_a_number_or_a_rate_and_nothing_of_the_models() -> None:
    common = {"start": None, "end": 2.0, "strategy": "random", "seed": 5}
    sampling = Sampling(num_frames=9, end=2, strategy="random", seed=5, even_above=4)
    assert shown(sampling, 8) == {"num_frames": 8, "fps": None, "max_frames": None, **common}
    by_rate = Sampling(fps=2, max_frames=9, end=2, even_above=4)
    rest = common | {"strategy": "uniform", "seed": 0}
    assert shown(by_rate, 8) == {"num_frames": None, "fps": 2.0, "max_frames": 9, **rest}


@pytest.mark.parametrize(
    ("sampling", "param"),
    [
        (FOUR, "num_frames"),
        (Sampling(fps=1.0), "fps"),
        (Sampling(fps=1.0, max_frames=99), "max_frames"),
    ],
)
def test_as_many_frames_as_the_model_takes_pass_and_one_more_is_refused(
    sampling: Sampling, param: str
) -> None:
    check_frames(CARD.max_frames, sampling, CARD)
    with pytest.raises(InvalidValueError, match=f"takes 1 to {CARD.max_frames}") as caught:
        check_frames(CARD.max_frames + 1, sampling, CARD)
    assert caught.value.param == f"sampling.{param}"
