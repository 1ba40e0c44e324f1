"""OpenAI's chat completion objects, whole and in chunks; our receipt and warnings are additional keys."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from bt_model.types import Usage
from server.answers.question import AnswerEvent, Broken, Finished, Progress, Text

WHOLE, CHUNK = "chat.completion", "chat.completion.chunk"
REASONS = {"stop": "stop", "length": "length"}  # OpenAI has no others; deadline and cancel become "length"


@dataclass(frozen=True, slots=True)
class CompletionShape:
    """One model's answer."""

    id: str
    created: int
    answers: Sequence[Progress]
    include_usage: bool = True

    def opening(self) -> list[dict[str, Any]]:
        return [self._chunk({"role": "assistant", "content": ""}, None)]

    def chunks(self, event: AnswerEvent) -> list[dict[str, Any]]:
        """The chunk that finishes carries the receipt; it is the last one that has a choice.

        Raises:
            Problem: the answer broke.
        """
        match event:
            case Text():
                return [self._chunk({"content": event.text}, None)]
            case Finished():
                return [self._chunk({}, REASONS.get(event.reason, "length")) | _additions(event)]
            case Broken():
                raise event.problem

    def closing(self, usage: Usage) -> list[dict[str, Any]]:
        chunk = self._head(CHUNK) | {"choices": [], "usage": usage_body(usage)}
        return [chunk] if self.include_usage else []

    def whole(self, events: Sequence[AnswerEvent]) -> dict[str, Any]:
        """Raises as `chunks`."""
        *texts, end = events
        if isinstance(end, Broken):
            raise end.problem
        assert isinstance(end, Finished)
        text = "".join(event.text for event in texts if isinstance(event, Text))
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": text, "refusal": None},
            "logprobs": None,
            "finish_reason": REASONS.get(end.reason, "length"),
        }
        return self._head(WHOLE) | {
            "choices": [choice],
            "usage": usage_body(end.usage),
            **_additions(end),
        }

    def _chunk(self, delta: dict[str, str], reason: str | None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        return self._head(CHUNK) | {"choices": [choice]}

    def _head(self, kind: str) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.answers[0].model,
            "system_fingerprint": self.answers[0].fingerprint,
        }


def _additions(end: Finished) -> dict[str, Any]:
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


def usage_of(events: Sequence[AnswerEvent]) -> Usage:
    """What all answers among these events took together."""
    usages = [event.usage for event in events if isinstance(event, Finished)]
    return Usage(
        prompt=sum(usage.prompt for usage in usages),
        completion=sum(usage.completion for usage in usages),
        video=sum(usage.video for usage in usages),
        cached=sum(usage.cached for usage in usages),
    )
