"""Measures of embeddings, each against what it says in words."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from lab.clips import CachedClips
from lab.measures import (
    TwinEmbeddings,
    embed_clips,
    first_hits,
    static_choices,
    twin_choices,
)
from lab.model import EmbeddedModel
from lab.shapes.scene import Scene
from tests import tiny

N, E = 6, 8


@pytest.fixture
def corpus(tmp_path: Path) -> CachedClips:
    return tiny.cached_clips(tmp_path, N, 4)


@pytest.fixture
def listed() -> list[Scene]:
    return [tiny.scene(number) for number in range(N)]


def unit(seed: int) -> Tensor:
    x = torch.randn(N, E, generator=torch.Generator().manual_seed(seed))
    return x / x.norm(dim=1, keepdim=True)


def embedded() -> TwinEmbeddings:
    return TwinEmbeddings(unit(0), unit(1), unit(2), unit(3))


def test_a_clip_nearer_to_its_own_caption_than_to_its_twins_is_right(listed: list[Scene]) -> None:
    x = embedded()
    choices = twin_choices(x, listed)["move"]
    for n in range(N):
        assert choices[n, 0] == (x.clips[n] @ x.captions[n] > x.clips[n] @ x.twin_captions[n])
        assert choices[n, 1] == (x.twins[n] @ x.twin_captions[n] > x.twins[n] @ x.captions[n])


def test_a_model_that_is_blind_to_order_has_half_of_the_twins(listed: list[Scene]) -> None:
    x = embedded()
    blind = TwinEmbeddings(x.clips, x.clips, x.captions, x.twin_captions)
    assert twin_choices(blind, listed)["move"].mean() == 0.5


def test_equal_captions_tell_nothing(listed: list[Scene]) -> None:
    x = embedded()
    silent = TwinEmbeddings(x.clips, x.twins, x.captions, x.captions)
    assert (twin_choices(silent, listed)["move"] == 0.5).all()


def test_a_first_hit_is_the_largest_of_its_row(listed: list[Scene]) -> None:
    x = embedded()
    videos = torch.cat([x.clips, x.twins])
    hits = first_hits(x, listed)["move"]
    for n in range(N):
        assert hits[n, 0] == float((videos @ x.captions[n]).argmax() == n)
        assert hits[n, 1] == float((videos @ x.twin_captions[n]).argmax() == N + n)


def test_a_tie_of_two_clips_counts_half(listed: list[Scene]) -> None:
    x = embedded()
    ideal = TwinEmbeddings(x.captions, x.captions, x.captions, x.captions)
    assert (first_hits(ideal, listed)["move"] == 0.5).all()


def test_the_branch_without_time_is_blind_to_order(model: EmbeddedModel, corpus: CachedClips) -> None:
    blind = model.encoder(model.pretrained)
    assert blind.adapter is not None
    blind.adapter.time_embed.weight.zero_()
    seen = embed_clips(blind, model.text, corpus, seed=0)
    torch.testing.assert_close(seen.clips, seen.twins)


def test_a_static_choice_is_the_nearest_of_an_attributes_prompts(
    model: EmbeddedModel, listed: list[Scene]
) -> None:
    with torch.inference_mode():
        prompt = model.text(["a ring", "a red circle on a black background"])
    right = prompt[1:] / prompt[1:].norm()
    all_right = TwinEmbeddings(*(right.expand(N, -1) for _ in range(4)))
    answers = static_choices(all_right, model.text, listed)
    assert {name: answer.tolist() for name, answer in answers.items()} == {
        name: np.ones((N, 2)).tolist() for name in ("shape", "colour", "background")
    }
