"""Several models' answers in one OpenAI object: a choice for each, with its usage and receipt."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from server.answers.question import AnswerEvent, Broken, Finished, Progress, Text
from server.problems import Problem
from server.streams.one_model import CHUNK, REASONS, WHOLE, answer_body, usage_body, usage_of
from server.streams.token_logprobs import logprobs_body

_FAILED = "error"


@dataclass(frozen=True, slots=True)
class ChoicesShape:
    """Choices in the order in which the models were named; chunks in order of arrival."""

    number: str  # of its id
    created: int
    answers: Sequence[Progress]

    is_done_sent = True

    def opening(self) -> list[dict[str, Any]]:
        delta = {"role": "assistant", "content": ""}
        return [self._chunk(index, delta, None) for index in range(len(self.answers))]

    def chunks(self, event: AnswerEvent) -> list[dict[str, Any]]:
        match event:
            case Text():
                more = {"logprobs": logprobs_body([event])}
                return [self._chunk(event.index, {"content": event.text}, None, **more)]
            case Finished():
                end = {"usage": usage_body(event.usage), "receipt": event.receipt}
                return [self._chunk(event.index, {}, REASONS.get(event.reason, "length"), **end)]
            case Broken():
                return [self._chunk(event.index, {}, _FAILED, **event.problem.body())]

    def closing(self, ends: Sequence[Finished]) -> list[dict[str, Any]]:
        """The usage of all answers together."""
        head = self._head(CHUNK) | {"model": self._models, "system_fingerprint": None}
        return [head | {"choices": [], "usage": usage_body(usage_of(ends))}]

    def broken(self, problem: Problem) -> list[dict[str, Any]]:
        return [problem.body()]

    def whole(self, events: Sequence[AnswerEvent]) -> dict[str, Any]:
        choices = [
            self._choice(index, [each for each in events if each.index == index])
            for index in range(len(self.answers))
        ]
        return self._head(WHOLE) | {
            "model": self._models,
            "system_fingerprint": None,
            "choices": choices,
            "usage": usage_body(usage_of(events)),
        }

    @property
    def _models(self) -> list[str]:
        return [answer.model for answer in self.answers]

    def _choice(self, index: int, events: Sequence[AnswerEvent]) -> dict[str, Any]:
        texts = [event for event in events if isinstance(event, Text)]
        choice = {
            "index": index,
            "model": self.answers[index].model,
            "system_fingerprint": self.answers[index].fingerprint,
            **answer_body(texts),
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
        head = self._head(CHUNK) | {"model": answer.model, "system_fingerprint": answer.fingerprint}
        return head | {"choices": [choice]}

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": f"chatcmpl-{self.number}", "object": kind, "created": self.created}
