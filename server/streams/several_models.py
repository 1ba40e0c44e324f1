"""Several models' answers in one object of OpenAI's shape: a choice for each, with its usage and receipt."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from bt_model.types import Usage
from server.answers.question import Answer, Finished, Text
from server.answers.several_models import Broken, PanelEvent
from server.streams.one_model import CHUNK, REASONS, WHOLE, usage_body

_FAILED = "error"


@dataclass(frozen=True, slots=True)
class PanelShape:
    """The answers in the order in which the models were named; chunks come as the models speak."""

    id: str
    created: int
    answers: Sequence[Answer]
    _usages: list[Usage] = field(default_factory=list[Usage])

    @property
    def stage(self) -> str:
        """What the first answer waits for: all are prepared together."""
        return self.answers[0].stage

    def opening(self) -> list[dict[str, Any]]:
        delta = {"role": "assistant", "content": ""}
        return [self._chunk(index, delta, None) for index in range(len(self.answers))]

    def chunks(self, event: PanelEvent) -> list[dict[str, Any]]:
        match event.event:
            case Text(text):
                return [self._chunk(event.index, {"content": text}, None)]
            case Finished(reason, usage, receipt):
                self._usages.append(usage)
                end = {"usage": usage_body(usage), "receipt": receipt}
                return [self._chunk(event.index, {}, REASONS.get(reason, "length"), **end)]
            case Broken(problem):
                return [self._chunk(event.index, {}, _FAILED, **problem.body())]

    def closing(self) -> list[dict[str, Any]]:
        """The usage of all answers together."""
        head = self._head(CHUNK) | {"model": self._models, "system_fingerprint": None}
        return [head | {"choices": [], "usage": usage_body(_sum(self._usages))}]

    def whole(self, events: Sequence[PanelEvent]) -> dict[str, Any]:
        choices = [
            self._choice(index, [each.event for each in events if each.index == index])
            for index in range(len(self.answers))
        ]
        usages = [each.event.usage for each in events if isinstance(each.event, Finished)]
        return self._head(WHOLE) | {
            "model": self._models,
            "system_fingerprint": None,
            "choices": choices,
            "usage": usage_body(_sum(usages)),
        }

    @property
    def _models(self) -> list[str]:
        return [answer.model for answer in self.answers]

    def _choice(self, index: int, events: Sequence[Text | Finished | Broken]) -> dict[str, Any]:
        text = "".join(event.text for event in events if isinstance(event, Text))
        choice = {
            "index": index,
            "model": self.answers[index].model,
            "system_fingerprint": self.answers[index].fingerprint,
            "message": {"role": "assistant", "content": text, "refusal": None},
            "logprobs": None,
        }
        end = events[-1]
        if isinstance(end, Finished):
            reason = REASONS.get(end.reason, "length")
            usage = usage_body(end.usage)
            return choice | {"finish_reason": reason, "usage": usage, "receipt": end.receipt}
        assert isinstance(end, Broken)
        return choice | {"finish_reason": _FAILED, "usage": None, "receipt": None, **end.problem.body()}

    def _chunk(self, index: int, delta: dict[str, str], reason: str | None, **more: Any) -> dict[str, Any]:
        choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": reason, **more}
        answer = self.answers[index]
        said = {"model": answer.model, "system_fingerprint": answer.fingerprint}
        return self._head(CHUNK) | said | {"choices": [choice]}

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self.created}


def _sum(usages: Sequence[Usage]) -> Usage:
    return Usage(
        prompt=sum(usage.prompt for usage in usages),
        completion=sum(usage.completion for usage in usages),
        video=sum(usage.video for usage in usages),
        cached=sum(usage.cached for usage in usages),
    )
