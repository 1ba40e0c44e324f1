"""Questions, and what their answers say: the values between a route and the engine."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from bt_model.errors import BtchatError
from bt_model.types import GenerateOptions, ModelCard, Turn
from server.engine.usage import Usage
from server.features.clips import ShownClip
from server.features.steps import WaitStep
from server.problems import Problem

_HALF = 2**63  # seeds are 64 bits with a sign


@dataclass(frozen=True, slots=True)
class AnswerWarning:
    """What a client should know of an answer that is not what it may seem."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Question:
    """A dialogue, perhaps about videos, the options of the answer, and the models to ask.

    A model that is named several times gives as many answers, choices of the same prompt.
    """

    tenant: str
    models: tuple[str, ...]
    turns: tuple[Turn, ...]
    options: GenerateOptions
    clips: tuple[ShownClip, ...] = ()  # in the order of their places
    fingerprint: str | None = None  # that the models must have

    @property
    def num_choices(self) -> int:
        """Of each model."""
        return self.models.count(self.models[0])


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer of one of a question's models; `begin` is monotonic, `deadline` the event loop's.

    `said` is set once an answer to this question has said something: then its prompt is stored.
    """

    question: Question
    index: int
    begin: float
    deadline: float
    said: asyncio.Event

    @property
    def model(self) -> str:
        return self.question.models[self.index]

    @property
    def choice(self) -> int:
        """Its number among the answers of its model."""
        return self.question.models[: self.index].count(self.model)

    @property
    def options(self) -> GenerateOptions:
        """Choice number n has the seed that is n above the question's, if that has one, in 64 bits."""
        options = self.question.options
        if options.seed is None:
            return options
        return replace(options, seed=(options.seed + self.choice + _HALF) % (2 * _HALF) - _HALF)


@dataclass(slots=True)
class Progress:
    """What one model's answer waits for now; once the model is open, its card, or why it cannot be had.

    `seconds` are those that its videos took, once their tokens are there.
    """

    model: str
    step: WaitStep = field(default_factory=lambda: WaitStep("lookup"))
    card: ModelCard | None = None
    error: BtchatError | None = None
    seconds: dict[str, float] = field(default_factory=dict[str, float])

    @property
    def fingerprint(self) -> str | None:
        return None if self.card is None else self.card.model_fingerprint


@dataclass(frozen=True, slots=True)
class Text:
    """New text of answer number `index`; whole code points."""

    index: int
    text: str
    logprobs: Sequence[Sequence[Any]] = ()  # as in `wire.Piece`
    usage: Usage | None = None  # so far


@dataclass(frozen=True, slots=True)
class Finished:
    """The end of an answer."""

    index: int
    reason: str
    usage: Usage
    receipt: dict[str, Any]
    warnings: tuple[AnswerWarning, ...] = ()


@dataclass(frozen=True, slots=True)
class Broken:
    """The end of an answer in an error; those of other models go on."""

    index: int
    problem: Problem


AnswerEvent = Text | Finished | Broken
