"""Choices between twins' answers, by chat models whose likelihoods are known."""

from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pytest
import torch

from bt_model.training.data.dialogues import VideoDialogue
from lab.chat_model import ChatModel
from lab.evaluate import ChatTest, EncodedClips
from lab.evidence import choices
from lab.evidence.choices import chat_choices
from lab.shapes.events import REVERSIBLE
from lab.shapes.questions import TEMPORAL
from lab.shapes.scene import Scene
from lab.shapes.splits import scenes

if TYPE_CHECKING:
    from torch import Tensor


SCENES = scenes("test_combo", 2 * len(REVERSIBLE), seed=2, kinds=REVERSIBLE)


def encoded() -> EncodedClips:
    """Video tokens say which row it is, and whether its twin."""
    clips = torch.tensor([[row, 0.0] for row in range(len(SCENES))])
    return EncodedClips(SCENES, clips, clips + torch.tensor([0.0, 1.0]))


class Sentences:
    """A batch of dialogues is their answers."""

    def batch(self, dialogues: list[VideoDialogue], _num_video: int) -> list[str]:
        return [dialogue.exchanges[0].answer for dialogue in dialogues]


def answers_about(scene: Scene, test: ChatTest) -> set[str]:
    return {question.sentence for question in test.questions(scene)}


@pytest.mark.parametrize(("knows", "share"), [("order", 1.0), ("nothing", 0.5), ("the opposite", 0.0)])
def test_a_model_that_knows_the_order_has_all_and_a_blind_one_half(
    monkeypatch: pytest.MonkeyPatch, knows: str, share: float
) -> None:
    test = ChatTest(ChatModel(cast(Any, None), cast(Any, None)), cast(Any, Sentences()), 0, 1, kinds=TEMPORAL)

    def likelihood(_lm: object, _projector: object, video: "Tensor", batch: list[str]) -> "Tensor":
        scores: list[float] = []
        for (row, is_twin), sentence in zip(video.tolist(), batch, strict=True):
            scene = SCENES[int(row)]
            true_scene = scene.twin() if is_twin else scene
            is_true = sentence in answers_about(true_scene, test)
            blind = float(len(sentence))  # likes long answers, whatever is shown
            scores.append({"order": is_true, "nothing": blind, "the opposite": not is_true}[knows])
        return torch.tensor(scores, dtype=torch.float32)

    monkeypatch.setattr(choices, "answer_scores", likelihood)
    found = chat_choices([encoded()], test)
    assert set(found) == {"direction", "pace", "change", "resize", "recolour", "order"}
    assert np.mean([each.mean() for each in found.values()]) == share
    assert all(each.shape[1] == 2 for each in found.values())
