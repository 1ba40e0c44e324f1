"""Stages on a tiny corpus: what each one trains, and that it leaves the rest alone."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from torch import nn

from bt_model.checkpoints.fingerprint import fingerprint
from bt_model.training.trainer.optimiser import Schedule
from lab.chat_model import ChatModel
from lab.clips import CachedClips
from lab.model import EmbeddedModel
from lab.stages import train_baseline, train_branch, train_captioner, train_instruct
from tests import tiny

TWO_STEPS = Schedule(num_steps=2, learning_rate=1e-3)


@pytest.fixture
def clips(tmp_path: Path) -> CachedClips:
    return tiny.cached_clips(tmp_path, num_scenes=6, num_frames=4)


@pytest.fixture
def trainable(model: EmbeddedModel) -> EmbeddedModel:
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


def chats(model: EmbeddedModel) -> dict[str, nn.Module]:
    parts = {"image": model.image, "video": model.video, "baseline": model.baseline}
    return {name: nn.ModuleList([chat.lm, chat.projector]) for name, chat in parts.items()}


def changed_by(model: EmbeddedModel, run: Callable[[], object]) -> set[str]:
    """Names of the parts whose weights a stage changes."""
    parts: dict[str, nn.Module] = {
        "tower": model.tower, "text": model.text, "head": model.head, "pretrained": model.pretrained,
        "tuned": model.tuned, **chats(model),
    }  # fmt: skip
    before = {name: fingerprint(part.state_dict()) for name, part in parts.items()}
    run()
    return {name for name, part in parts.items() if fingerprint(part.state_dict()) != before[name]}


def test_the_captioner_is_a_copy_that_learns_captions_and_is_then_frozen(
    trainable: EmbeddedModel, tmp_path: Path
) -> None:
    model, made = trainable, list[ChatModel]()

    def run() -> None:
        made.append(train_captioner(model, tmp_path)[0])

    assert changed_by(model, run) == set()
    copied = made[0]
    assert fingerprint(copied.lm.state_dict()) != fingerprint(model.image.lm.state_dict())
    assert not any(p.requires_grad for p in (*copied.lm.parameters(), *copied.projector.parameters()))


def test_pretraining_changes_the_branch_and_its_head_alone(
    trainable: EmbeddedModel, clips: CachedClips, tmp_path: Path
) -> None:
    model = trainable
    run = lambda: train_branch(model, model.image, clips, tmp_path)  # noqa: E731 - one call
    assert changed_by(model, run) == {"pretrained", "head"}


def test_instruction_tuning_changes_the_branch_and_its_chat_model_alone(
    trainable: EmbeddedModel, clips: CachedClips, tmp_path: Path
) -> None:
    model = trainable
    run = lambda: train_instruct(model, clips, tmp_path)  # noqa: E731 - one call
    assert changed_by(model, run) == {"tuned", "video"}


def test_the_baseline_changes_its_chat_model_alone(
    trainable: EmbeddedModel, clips: CachedClips, tmp_path: Path
) -> None:
    model = trainable
    run = lambda: train_baseline(model, clips, tmp_path)  # noqa: E731 - one call
    assert changed_by(model, run) == {"baseline"}
