"""How answers are counted, over scenes whose twins are the same clip played backwards."""

from collections.abc import Sequence
from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch
from torch import Tensor

from bt_model.training.corpus.questions import questions
from bt_model.training.corpus.scene import Item, Move, Scene
from bt_model.training.data import TrunkCache
from bt_model.training.embedded import Model
from bt_model.training.evaluate import Answered, answer_questions, twin_retrieval
from bt_model.training.stages import Corpus, frame_mean
from bt_model.vision.encoder import VideoEncoder
from bt_model.vision.pool import patches_cls
from tests import tiny

NUM_SCENES, T = 5, 4


def scene(number: int) -> Scene:
    item = Item("circle", "red", diameter=18.0, x=20.0 + number, y=24.0)
    return Scene(item, "black", Move("left", path=20.0))


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    """Scenes with the trunk states of random clips."""
    states = tiny.encoder().trunk_states(tiny.pixels(NUM_SCENES, T))
    kept = torch.stack(states, dim=1).half().numpy()
    cache = np.memmap(tmp_path / "a.trunk", np.float16, "w+", shape=kept.shape)
    cache[:] = kept
    return Corpus([scene(n) for n in range(NUM_SCENES)], TrunkCache(cache, tuple(tiny.encoder().reads)))


def test_twins_count_only_where_both_directions_are_right() -> None:
    answered = Answered()
    for number, answers in enumerate([(True, True), (True, False), (False, False)]):
        answered.add("direction", scene(number), answers[0])
        answered.add("direction", scene(number).reversed(), answers[1])
    assert answered.twins("direction").value == pytest.approx(1 / 3)
    assert answered.shares()["direction"].value == 0.5


def test_static_kinds_are_also_counted_together() -> None:
    answered = Answered()
    answered.add("colour", scene(0), True)
    answered.add("shape", scene(0), False)
    answered.add("shape", scene(1), True)
    answered.add("direction", scene(1), False)
    assert answered.shares()["static"].value == pytest.approx(2 / 3)
    assert answered.shares()["static"].count == 3


def test_every_question_about_each_clip_and_its_twin_is_asked_once(model: Model, corpus: Corpus) -> None:
    encoder = model.encoder(model.tuned)
    chat = model.video
    answered = answer_questions(
        lambda states: patches_cls(encoder.chat_from_trunk(states[:-1])),
        chat,
        model.tokens,
        corpus,
        held_out=False,
        seed=0,
    )
    counts = {kind: share.count for kind, share in answered.shares().items() if kind != "static"}
    kinds = [question.kind for question in questions(scene(0), Random(0))]
    assert counts == dict.fromkeys(kinds, 2 * NUM_SCENES)


def test_features_are_asked_for_each_direction(model: Model, corpus: Corpus) -> None:
    seen = list[Tensor]()

    def features(states: Sequence[Tensor]) -> Tensor:
        seen.append(states[0])
        return frame_mean(states)

    chat = model.video
    answer_questions(features, chat, model.tokens, corpus, held_out=False, seed=0)
    forward, backward = seen
    assert torch.equal(backward, forward.flip(1))


def test_retrieval_compares_a_caption_with_its_twins(model: Model, corpus: Corpus) -> None:
    shares = twin_retrieval(model.encoder(model.pretrained), model.text, corpus, seed=0)
    assert {kind: share.count for kind, share in shares.items()} == {"move": 2 * NUM_SCENES}


def test_a_model_that_cannot_see_time_has_half_of_the_twins_right(model: Model, corpus: Corpus) -> None:
    blind = model.encoder(model.pretrained)
    assert blind.adapter is not None
    blind.adapter.time_embed.weight.zero_()
    for name, weight in blind.adapter.temporal.named_parameters():
        if "temporal_fc" in name:
            weight.zero_()
    assert twin_retrieval(blind, model.text, corpus, seed=0)["move"].value == pytest.approx(0.5)


def test_the_frame_mean_is_the_encoders_without_a_branch(corpus: Corpus) -> None:
    plain = patches_cls(VideoEncoder(tiny.tower(), None).chat(tiny.pixels(NUM_SCENES, T)))
    mean = frame_mean(tiny.encoder().trunk_states(tiny.pixels(NUM_SCENES, T)))
    torch.testing.assert_close(mean, plain)
