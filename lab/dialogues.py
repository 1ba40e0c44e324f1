"""Dialogues about drawn clips as token rows."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

import torch

from bt_model.generation.request import Soft, Tokens
from bt_model.prompt.segments import SpecialIds, segments
from bt_model.prompt.templates import Template
from bt_model.training.data.tokens import TokenRow
from bt_model.training.objectives.losses import IGNORED
from bt_model.types import Turn
from lab.shapes.questions import Question


@dataclass(frozen=True, slots=True)
class DialogueTokens:
    """Dialogues as the serving backend spells them: the same template, ids and encoder."""

    style: Template
    ids: SpecialIds
    encode: Callable[[str], list[int]]
    num_video: int

    def row(self, asked: Sequence[Question]) -> TokenRow:
        """All questions about one clip, in this order, answered one after another."""
        video = Soft(b"", torch.empty(self.num_video, 0))
        turns: list[Turn] = []
        labels: list[int] = []
        flat: list[int] = []
        place = 0
        for question in asked:
            turns.append(Turn("user", question.text))
            prompt = segments(turns, self.style, self.ids, self.encode, video)
            head, tail = prompt[0], prompt[2]
            assert isinstance(head, Tokens)
            assert isinstance(tail, Tokens)
            place = len(head.ids)
            said, flat = flat, [*head.ids, *[self.ids.filler] * self.num_video, *tail.ids]
            assert flat[: len(said)] == said, "an answer must be spelled the same when it has become history"
            answer = [*self.encode(f" {question.sentence}"), self.ids.eos]
            labels += [IGNORED] * (len(flat) - len(labels)) + answer
            flat += answer
            turns.append(Turn("assistant", question.sentence))
        return TokenRow(flat, labels, place)


def shuffled(asked: Sequence[Question], rng: Random, most: int) -> list[Question]:
    """Up to `most` questions in random order; a temporal one is always among them."""
    temporal = [q for q in asked if q.is_temporal]
    others = [q for q in asked if not q.is_temporal]
    picked = temporal + rng.sample(others, min(len(others), most - len(temporal)))
    rng.shuffle(picked)
    return picked
