"""Log probabilities of an answer's tokens in OpenAI's form."""

from collections.abc import Sequence
from typing import Any

from server.answers.question import Text

_LEAST = -9999.0  # what OpenAI writes for less; JSON has no infinity


def logprobs_body(texts: Sequence[Text]) -> dict[str, Any] | None:
    """Of all tokens of these texts; None where nobody asked."""
    content = [
        _token(*token) | {"top_logprobs": [_token(*each) for each in top]}
        for text in texts
        for *token, top in text.logprobs
    ]
    return {"content": content, "refusal": None} if content else None


def _token(text: str, data: bytes | None, logprob: float) -> dict[str, Any]:
    return {
        "token": text,
        "bytes": None if data is None else list(data),
        "logprob": max(logprob, _LEAST),
    }
