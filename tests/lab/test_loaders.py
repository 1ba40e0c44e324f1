"""Batches of drawn clips and pictures: what a step's number decides, and what the product's steps get."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

from bt_model.training.pretrain.settings import MaskSettings
from lab.clips import CachedClips
from lab.dialogues import question_dialogues
from lab.loaders import CaptionedClips, SceneDialogues
from lab.model import EmbeddedModel
from lab.pictures import draw_pictures
from tests import tiny

SIZE, T, STEPS = 4, 4, 10


@pytest.fixture
def clips(tmp_path: Path) -> CachedClips:
    return tiny.cached_clips(tmp_path, num_scenes=6, num_frames=T)


@pytest.fixture
def captioned(model: EmbeddedModel, clips: CachedClips) -> CaptionedClips:
    mask = MaskSettings(rate=0.5, unmasked=0.2)
    return CaptionedClips("a", 0, clips, SIZE, tiny.encoder().reads, model.text, mask, STEPS)


def test_a_pretraining_batch_is_decided_by_seed_and_step(captioned: CaptionedClips) -> None:
    first, again, later, other = (
        captioned.batch(3), captioned.batch(3), captioned.batch(4), replace(captioned, seed=1).batch(3)
    )  # fmt: skip
    assert torch.equal(first.clips, again.clips)
    assert torch.equal(first.captions.ids, again.captions.ids)
    assert torch.equal(first.masks.pairs, again.masks.pairs)
    for different in (later, other):
        assert not torch.equal(first.captions.ids, different.captions.ids)
        assert not torch.equal(first.masks.pairs, different.masks.pairs)


def test_half_of_a_batch_are_the_twins_of_the_other_half(captioned: CaptionedClips) -> None:
    batch = captioned.batch(0)
    assert len(batch) == SIZE
    assert batch.clips.shape[1:3] == (tiny.K, T)
    assert torch.equal(batch.clips[SIZE // 2 :], batch.clips[: SIZE // 2].flip(2))


def test_the_last_steps_of_a_run_hide_nothing(captioned: CaptionedClips) -> None:
    hidden = [captioned.batch(step).masks.visible is not None for step in range(STEPS)]
    assert hidden == [True] * 8 + [False] * 2


def test_a_captioner_gets_the_same_captions_in_its_own_tokens(
    model: EmbeddedModel, captioned: CaptionedClips
) -> None:
    assert captioned.batch(0).captions.answers is None
    answers = replace(captioned, answers=model.caption_tokenizer).batch(0).captions.answers
    assert answers is not None
    assert answers.num_answer_tokens.all()
    assert answers.is_video.sum(dim=1).tolist() == [model.num_video] * SIZE


def test_dialogues_are_about_clips_or_pictures_and_decided_by_the_step(
    model: EmbeddedModel, clips: CachedClips
) -> None:
    reads = tiny.encoder().chat_reads
    draws = (partial(clips.draw, SIZE, reads=reads), partial(draw_pictures, SIZE, side=tiny.SIDE))
    shapes = ((len(reads), T, 1 + tiny.P, tiny.D), (1, tiny.SIDE, tiny.SIDE, 3))
    for draw, shape in zip(draws, shapes, strict=True):
        loader = SceneDialogues("a", 0, draw, question_dialogues, model.speller, model.num_video)
        first, again, later = loader.batch(3), loader.batch(3), loader.batch(4)
        assert [video.shape for video in first.videos] == [shape] * SIZE
        assert torch.equal(first.tokens.ids, again.tokens.ids)
        assert torch.equal(torch.stack(first.videos), torch.stack(again.videos))
        assert not torch.equal(torch.stack(first.videos), torch.stack(later.videos))
