"""The objects of OpenAI's chat completions, whole and in chunks; our receipt travels as one more key."""

from dataclasses import dataclass
from typing import Any

from bt_model.types import Usage
from server.chat_flow import Finished

_REASONS = {"stop": "stop", "length": "length"}  # an answer cut for any other reason was not the model's end


@dataclass(frozen=True, slots=True)
class CompletionShape:
    """What all objects of one answer have in common."""

    id: str
    created: int
    model: str
    fingerprint: str

    def role_chunk(self) -> dict[str, Any]:
        return self._chunk({"role": "assistant", "content": ""}, None)

    def text_chunk(self, text: str) -> dict[str, Any]:
        return self._chunk({"content": text}, None)

    def finish_chunk(self, finished: Finished) -> dict[str, Any]:
        """Carries the receipt; it is the last chunk that has a choice."""
        return self._chunk({}, _REASONS.get(finished.reason, "length")) | {"receipt": finished.receipt}

    def usage_chunk(self, usage: Usage) -> dict[str, Any]:
        return self._head("chat.completion.chunk") | {"choices": [], "usage": usage_body(usage)}

    def whole(self, text: str, finished: Finished) -> dict[str, Any]:
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": text, "refusal": None},
            "logprobs": None,
            "finish_reason": _REASONS.get(finished.reason, "length"),
        }
        return self._head("chat.completion") | {
            "choices": [choice],
            "usage": usage_body(finished.usage),
            "receipt": finished.receipt,
        }

    def _chunk(self, delta: dict[str, str], reason: str | None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        return self._head("chat.completion.chunk") | {"choices": [choice]}

    def _head(self, kind: str) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": self.fingerprint,
        }


def usage_body(usage: Usage) -> dict[str, Any]:
    """Tokens counted, in OpenAI's words; `video_tokens` is our addition."""
    return {
        "prompt_tokens": usage.prompt,
        "completion_tokens": usage.completion,
        "total_tokens": usage.total,
        "prompt_tokens_details": {"cached_tokens": usage.cached, "video_tokens": usage.video},
    }
