"""Stages on a tiny corpus: what each one trains, and that it leaves the rest alone."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from torch import nn

from bt_model.checkpoints.fingerprint import fingerprint
from bt_model.training.trainer.optimiser import Schedule
from lab.clips import Corpus
from lab.embedded import Model
from lab.stages import (
    CaptionSide,
    ChatParts,
    train_baseline,
    train_branch,
    train_captioner,
    train_instruct,
)
from tests import tiny

TWO_STEPS = Schedule(num_steps=2, learning_rate=1e-3)


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    return tiny.corpus(tmp_path, num_scenes=6, num_frames=4)


@pytest.fixture
def trainable(model: Model) -> Model:
    for part in (model.pretrained, model.tuned, model.head, *chats(model).values()):
        part.requires_grad_(requires_grad=True)
    sizes = replace(
        model.plan,
        captioner=TWO_STEPS,
        language_batch=4,
        pretrain=TWO_STEPS,
        instruct=TWO_STEPS,
        baseline=TWO_STEPS,
        pretrain_batch=4,
        instruct_batch=4,
    )
    return replace(model, plan=sizes)


def chats(model: Model) -> dict[str, nn.Module]:
    parts = {"image": model.image, "video": model.video, "baseline": model.baseline}
    return {name: nn.ModuleList([chat.lm, chat.projector]) for name, chat in parts.items()}


def changed_by(model: Model, run: Callable[[], object]) -> set[str]:
    """Names of the parts whose weights a stage changes."""
    parts: dict[str, nn.Module] = {
        "tower": model.tower, "text": model.text, "head": model.head, "pretrained": model.pretrained,
        "tuned": model.tuned, **chats(model),
    }  # fmt: skip
    before = {name: fingerprint(part.state_dict()) for name, part in parts.items()}
    run()
    return {name for name, part in parts.items() if fingerprint(part.state_dict()) != before[name]}


def test_the_captioner_is_a_copy_that_learns_captions_and_is_then_frozen(
    trainable: Model, tmp_path: Path
) -> None:
    model, made = trainable, list[ChatParts]()

    def run() -> None:
        still = model.encoder(None)
        made.append(train_captioner(model.plan, still, model.image, model.tokens, tmp_path)[0])

    assert changed_by(model, run) == set()
    copied = made[0]
    assert fingerprint(copied.lm.state_dict()) != fingerprint(model.image.lm.state_dict())
    assert not any(p.requires_grad for p in (*copied.lm.parameters(), *copied.projector.parameters()))


def test_pretraining_changes_the_branch_and_its_head_alone(
    trainable: Model, corpus: Corpus, tmp_path: Path
) -> None:
    model = trainable
    encoder, side = model.encoder(model.pretrained), CaptionSide(model.text, model.image, model.tokens)
    run = lambda: train_branch(model.plan, encoder, model.head, side, corpus, tmp_path)  # noqa: E731 - one call
    assert changed_by(model, run) == {"pretrained", "head"}


def test_instruction_tuning_changes_the_branch_and_its_chat_model_alone(
    trainable: Model, corpus: Corpus, tmp_path: Path
) -> None:
    model = trainable
    encoder = model.encoder(model.tuned)
    run = lambda: train_instruct(model.plan, encoder, model.video, model.tokens, corpus, tmp_path)  # noqa: E731 - one call
    assert changed_by(model, run) == {"tuned", "video"}


def test_the_baseline_changes_its_chat_model_alone(trainable: Model, corpus: Corpus, tmp_path: Path) -> None:
    model = trainable
    still = model.encoder(None)
    run = lambda: train_baseline(model.plan, still, model.baseline, model.tokens, corpus, tmp_path)  # noqa: E731 - one call
    assert changed_by(model, run) == {"baseline"}
