"""How answers are counted, over scenes whose twins are the same clip played backwards."""

from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from torch import Tensor

from bt_model.vision.encoder import ChatFeatures
from bt_model.vision.pool import patches_cls
from lab.clips import CachedClips
from lab.evaluate import AnswerRecord, ChatTest, answer_questions, encode_clips
from lab.model import EmbeddedModel
from lab.shapes.questions import questions
from tests import tiny

NUM_SCENES, T = 5, 4


@pytest.fixture
def clips(tmp_path: Path) -> CachedClips:
    return tiny.cached_clips(tmp_path, NUM_SCENES, T)


def test_twins_count_only_where_both_directions_are_right() -> None:
    record = AnswerRecord()
    for number, answers in enumerate([(True, True), (True, False), (False, False)]):
        record.add("direction", tiny.scene(number), answers[0])
        record.add("direction", tiny.scene(number).twin(), answers[1])
    assert record.twins("direction").value == pytest.approx(1 / 3)
    assert record.shares()["direction"].value == 0.5


def test_static_kinds_are_also_counted_together() -> None:
    record = AnswerRecord()
    record.add("colour", tiny.scene(0), True)
    record.add("shape", tiny.scene(0), False)
    record.add("shape", tiny.scene(1), True)
    record.add("direction", tiny.scene(1), False)
    assert record.shares()["static"].value == pytest.approx(2 / 3)
    assert record.shares()["static"].count == 3


def chat_test(model: EmbeddedModel, **changes: Any) -> ChatTest:
    return ChatTest(model.video, model.speller, model.num_video, seed=0, **changes)


def test_every_question_about_each_clip_and_its_twin_is_asked_once(
    model: EmbeddedModel, clips: CachedClips
) -> None:
    encoder = model.encoder(model.tuned)
    record = answer_questions(encode_clips(encoder, patches_cls, clips), chat_test(model))
    counts = {kind: share.count for kind, share in record.shares().items() if kind != "static"}
    kinds = [question.kind for question in questions(tiny.scene(0), Random(0))]
    assert counts == dict.fromkeys(kinds, 2 * NUM_SCENES)


def test_only_the_kinds_asked_for_are_asked(model: EmbeddedModel, clips: CachedClips) -> None:
    still = model.encoder(None)
    test = chat_test(model, kinds=("direction", "colour"))
    record = answer_questions(encode_clips(still, patches_cls, clips), test)
    assert set(record.kinds) == {"direction", "colour"}


def test_a_twin_is_asked_in_the_same_words(model: EmbeddedModel) -> None:
    test = chat_test(model)
    for number in range(NUM_SCENES):
        scene = tiny.scene(number)
        pairs = zip(test.questions(scene), test.questions(scene.twin()), strict=True)
        assert all(mine.text == theirs.text for mine, theirs in pairs)


def test_clips_are_encoded_in_both_directions(model: EmbeddedModel, clips: CachedClips) -> None:
    still, read = model.encoder(None), list[Tensor]()

    def pool(features: ChatFeatures) -> Tensor:
        read.append(features.trunk)
        return patches_cls(features)

    (encoded,) = encode_clips(still, pool, clips)
    forward, backward = read
    assert torch.equal(backward, forward.flip(1))
    assert encoded.scenes == clips.scenes
    assert torch.equal(encoded.clips, patches_cls(ChatFeatures(forward)))
    assert torch.equal(encoded.twins, patches_cls(ChatFeatures(backward)))
