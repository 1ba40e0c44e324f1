"""Does a chat model find the answer about a clip more likely than the one about its twin? n scenes.

Both answers are asked for in the same words, so a model that is blind to order gives both clips the same one,
and has one of two right.
"""

from collections import defaultdict
from typing import TYPE_CHECKING

import numpy as np
import torch

from bt_model.training.objectives.answers import answer_scores
from lab.evaluate import ChatTest, EncodedClips

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from torch import Tensor

    from lab.shapes.questions import ClipQuestion
    from lab.shapes.scene import Scene
    from lab.statistics import Answers


def chat_choices(encoded: "Iterable[EncodedClips]", test: ChatTest) -> "dict[str, Answers]":
    """By question kind, (n, 2): clip and twin, a tie for half; questions whose answer stays are left out."""
    answers: defaultdict[str, list[tuple[float, float]]] = defaultdict(list)
    for batch in encoded:
        every = [_pairs(test, scene) for scene in batch.scenes]
        for turn in range(max(map(len, every))):
            rows = [row for row, pairs in enumerate(every) if turn < len(pairs)]
            pairs = [every[row][turn] for row in rows]
            credits = _credits((batch.clips[rows], batch.twins[rows]), test, pairs)
            for (question, _), credit in zip(pairs, credits, strict=True):
                answers[question.kind].append(credit)
    return {kind: np.array(each) for kind, each in answers.items()}


def _pairs(test: ChatTest, scene: "Scene") -> "list[tuple[ClipQuestion, ClipQuestion]]":
    pairs = zip(test.questions(scene), test.questions(scene.twin()), strict=True)
    return [(own, other) for own, other in pairs if own.sentence != other.sentence]


def _credits(
    videos: "Sequence[Tensor]", test: ChatTest, pairs: "Sequence[tuple[ClipQuestion, ClipQuestion]]"
) -> list[tuple[float, float]]:
    """For every pair of answers, what the clip and its twin earn; `videos`: both, each (B, K, D)."""
    chat = test.chat
    ahead: list[Tensor] = []
    for video, sign in zip(videos, (1, -1), strict=True):
        own, other = (
            answer_scores(chat.lm, chat.projector, video, test.batch([pair[side] for pair in pairs]))
            for side in (0, 1)
        )
        ahead.append(sign * (own - other))
    credit = torch.stack([(a > 0).double() + 0.5 * (a == 0).double() for a in ahead], dim=1)
    return [(float(clip), float(twin)) for clip, twin in credit]
