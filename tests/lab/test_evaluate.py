"""How answers are counted, over scenes whose twins are the same clip played backwards."""

from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from torch import Tensor

from bt_model.vision.pool import patches_cls
from lab.clips import CachedClips
from lab.evaluate import Answered, Asker, answer_questions, show
from lab.model import EmbeddedModel
from lab.shapes.questions import questions
from tests import tiny

NUM_SCENES, T = 5, 4


@pytest.fixture
def corpus(tmp_path: Path) -> CachedClips:
    return tiny.cached_clips(tmp_path, NUM_SCENES, T)


def test_twins_count_only_where_both_directions_are_right() -> None:
    answered = Answered()
    for number, answers in enumerate([(True, True), (True, False), (False, False)]):
        answered.add("direction", tiny.scene(number), answers[0])
        answered.add("direction", tiny.scene(number).twin(), answers[1])
    assert answered.twins("direction").value == pytest.approx(1 / 3)
    assert answered.shares()["direction"].value == 0.5


def test_static_kinds_are_also_counted_together() -> None:
    answered = Answered()
    answered.add("colour", tiny.scene(0), True)
    answered.add("shape", tiny.scene(0), False)
    answered.add("shape", tiny.scene(1), True)
    answered.add("direction", tiny.scene(1), False)
    assert answered.shares()["static"].value == pytest.approx(2 / 3)
    assert answered.shares()["static"].count == 3


def asker(model: EmbeddedModel, **changes: Any) -> Asker:
    return Asker(model.video, model.speller, model.num_video, seed=0, **changes)


def test_every_question_about_each_clip_and_its_twin_is_asked_once(
    model: EmbeddedModel, corpus: CachedClips
) -> None:
    encoder = model.encoder(model.tuned)
    shown = show(lambda states: patches_cls(encoder.chat_from_trunk(states)), encoder.chat_reads, corpus)
    answered = answer_questions(shown, asker(model))
    counts = {kind: share.count for kind, share in answered.shares().items() if kind != "static"}
    kinds = [question.kind for question in questions(tiny.scene(0), Random(0))]
    assert counts == dict.fromkeys(kinds, 2 * NUM_SCENES)


def test_only_the_kinds_asked_for_are_asked(model: EmbeddedModel, corpus: CachedClips) -> None:
    still = model.encoder(None)
    shown = show(lambda states: patches_cls(still.chat_from_trunk(states)), still.chat_reads, corpus)
    answered = answer_questions(shown, asker(model, kinds=("direction", "colour")))
    assert set(answered.kinds) == {"direction", "colour"}


def test_a_twin_is_asked_in_the_same_words(model: EmbeddedModel) -> None:
    ask = asker(model)
    for number in range(NUM_SCENES):
        scene = tiny.scene(number)
        pairs = zip(ask.questions(scene), ask.questions(scene.twin()), strict=True)
        assert all(mine.text == theirs.text for mine, theirs in pairs)


def test_features_are_asked_for_each_direction(model: EmbeddedModel, corpus: CachedClips) -> None:
    seen = list[Tensor]()
    still = model.encoder(None)

    def features(states: Sequence[Tensor]) -> Tensor:
        seen.append(states[0])
        return patches_cls(still.chat_from_trunk(states))

    answer_questions(show(features, still.chat_reads, corpus), asker(model))
    forward, backward = seen
    assert torch.equal(backward, forward.flip(1))
