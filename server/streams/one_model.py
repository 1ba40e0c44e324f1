"""OpenAI's chat completion objects, whole and in chunks; our receipt and warnings are additional keys."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from server.answers.question import AnswerEvent, Broken, Finished, Progress, Text
from server.engine.usage import Usage
from server.problems import Problem
from server.streams.token_logprobs import logprobs_body

WHOLE, CHUNK = "chat.completion", "chat.completion.chunk"
REASONS = {"stop": "stop", "length": "length"}  # OpenAI has no others; deadline and cancel become "length"


@dataclass(frozen=True, slots=True)
class CompletionShape:
    """One model's answer, or several choices of it."""

    number: str  # of its id
    created: int
    answers: Sequence[Progress]
    include_usage: bool = True
    continuous_usage: bool = False

    is_done_sent = True

    def opening(self) -> list[dict[str, Any]]:
        delta = {"role": "assistant", "content": ""}
        return [self._chunk(index, delta, None) for index in range(len(self.answers))]

    def chunks(self, event: AnswerEvent) -> list[dict[str, Any]]:
        """The chunk that finishes a choice carries its receipt; no other of that choice comes after it.

        Raises:
            Problem: the answer broke.
        """
        match event:
            case Text():
                more = {"logprobs": logprobs_body([event])}
                return [self._chunk(event.index, {"content": event.text}, None, **more) | self._so_far(event)]
            case Finished():
                reason = REASONS.get(event.reason, "length")
                return [self._chunk(event.index, {}, reason) | additions(event) | self._so_far(event)]
            case Broken():
                raise event.problem

    def closing(self, ends: Sequence[Finished]) -> list[dict[str, Any]]:
        chunk = self._head(CHUNK) | {"choices": [], "usage": usage_body(_usage_of_choices(ends))}
        return [chunk] if self.include_usage else []

    def broken(self, problem: Problem) -> list[dict[str, Any]]:
        return [problem.body()]

    def whole(self, events: Sequence[AnswerEvent]) -> dict[str, Any]:
        """Raises as `chunks`; the receipt is the first choice's."""
        for event in events:
            if isinstance(event, Broken):
                raise event.problem
        ends = sorted((event for event in events if isinstance(event, Finished)), key=lambda end: end.index)
        texts = [event for event in events if isinstance(event, Text)]
        choices = [
            {
                "index": end.index,
                **answer_body([text for text in texts if text.index == end.index]),
                "finish_reason": REASONS.get(end.reason, "length"),
            }
            for end in ends
        ]
        return self._head(WHOLE) | {
            "choices": choices,
            "usage": usage_body(_usage_of_choices(ends)),
            **additions(ends[0]),
        }

    def _so_far(self, event: Text | Finished) -> dict[str, Any]:
        """The tokens of one choice up to here, for those who want them in every chunk."""
        if not self.continuous_usage or event.usage is None:
            return {}
        return {"usage": usage_body(event.usage)}

    def _chunk(self, index: int, delta: dict[str, str], reason: str | None, **more: Any) -> dict[str, Any]:
        choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": reason, **more}
        return self._head(CHUNK) | {"choices": [choice]}

    def _head(self, kind: str) -> dict[str, Any]:
        return {
            "id": f"chatcmpl-{self.number}",
            "object": kind,
            "created": self.created,
            "model": self.answers[0].model,
            "system_fingerprint": self.answers[0].fingerprint,
        }


def answer_body(texts: Sequence[Text]) -> dict[str, Any]:
    """Message and log probabilities of a whole answer."""
    text = "".join(event.text for event in texts)
    message = {"role": "assistant", "content": text, "refusal": None}
    return {"message": message, "logprobs": logprobs_body(texts)}


def additions(end: Finished) -> dict[str, Any]:
    """What OpenAI's objects do not have: the receipt, and warnings if there are any."""
    warnings = {"warnings": [asdict(each) for each in end.warnings]} if end.warnings else {}
    return {"receipt": end.receipt, **warnings}


def usage_body(usage: Usage) -> dict[str, Any]:
    """Token counts under OpenAI's names; `video_tokens` is our addition."""
    return {
        "prompt_tokens": usage.prompt,
        "completion_tokens": usage.completion,
        "total_tokens": usage.total,
        "prompt_tokens_details": {"cached_tokens": usage.cached, "video_tokens": usage.video},
    }


def _usage_of_choices(ends: Sequence[Finished]) -> Usage:
    """The prompt counts once, as it is for the first, and the tokens of all choices."""
    first = min(ends, key=lambda end: end.index).usage
    return replace(first, completion=sum(end.usage.completion for end in ends))


def usage_of(events: Sequence[AnswerEvent]) -> Usage:
    """What all answers among these events took together."""
    usages = [event.usage for event in events if isinstance(event, Finished)]
    return Usage(
        prompt=sum(usage.prompt for usage in usages),
        completion=sum(usage.completion for usage in usages),
        video=sum(usage.video for usage in usages),
        cached=sum(usage.cached for usage in usages),
    )
