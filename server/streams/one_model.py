"""The objects of OpenAI's chat completions, whole and in chunks; our receipt travels as one more key."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bt_model.types import Usage
from server.answers.question import Answer, AnswerEvent, Finished, Text

WHOLE, CHUNK = "chat.completion", "chat.completion.chunk"
REASONS = {"stop": "stop", "length": "length"}  # an answer cut for any other reason was not the model's end


@dataclass(frozen=True, slots=True)
class CompletionShape:
    """One model's answer."""

    id: str
    created: int
    answer: Answer
    include_usage: bool

    @property
    def stage(self) -> str:
        return self.answer.stage

    def opening(self) -> list[dict[str, Any]]:
        return [self._chunk({"role": "assistant", "content": ""}, None)]

    def chunks(self, event: AnswerEvent) -> list[dict[str, Any]]:
        """The chunk that finishes carries the receipt; it is the last one that has a choice."""
        if isinstance(event, Text):
            return [self._chunk({"content": event.text}, None)]
        finish = self._chunk({}, REASONS.get(event.reason, "length")) | {"receipt": event.receipt}
        usage = self._head(CHUNK) | {"choices": [], "usage": usage_body(event.usage)}
        return [finish, usage] if self.include_usage else [finish]

    def closing(self) -> list[dict[str, Any]]:
        return []

    def whole(self, events: Sequence[AnswerEvent]) -> dict[str, Any]:
        *texts, end = events
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
            "receipt": end.receipt,
        }

    def _chunk(self, delta: dict[str, str], reason: str | None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        return self._head(CHUNK) | {"choices": [choice]}

    def _head(self, kind: str) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.answer.model,
            "system_fingerprint": self.answer.fingerprint,
        }


def usage_body(usage: Usage) -> dict[str, Any]:
    """Tokens counted, in OpenAI's words; `video_tokens` is our addition."""
    return {
        "prompt_tokens": usage.prompt,
        "completion_tokens": usage.completion,
        "total_tokens": usage.total,
        "prompt_tokens_details": {"cached_tokens": usage.cached, "video_tokens": usage.video},
    }
