"""One streamed answer, as a client sees it."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx


@dataclass(frozen=True, slots=True)
class StreamedAnswer:
    """Its text, the seconds to the first of it, the tokens that were counted, and the receipt."""

    text: str
    first_seconds: float
    usage: Mapping[str, Any]
    receipt: Mapping[str, Any]

    @property
    def num_tokens(self) -> int:
        return int(self.usage["completion_tokens"])

    @property
    def num_prompt(self) -> int:
        return int(self.usage["prompt_tokens"])

    @property
    def num_prefilled(self) -> int:
        """Prompt tokens that were computed for this answer, and not found in the cache."""
        return self.num_prompt - int(self.receipt["cache"]["prompt_tokens"])


async def ask(
    client: httpx.AsyncClient, video: str, messages: Sequence[Mapping[str, str]], **more: object
) -> StreamedAnswer:
    """The greedy answer to the last message of a dialogue about a video."""
    body = {"video": video, "messages": list(messages), "stream": True, "temperature": 0, **more}
    begin = time.monotonic()
    first, text = 0.0, ""
    usage: Mapping[str, Any] = {}
    receipt: Mapping[str, Any] = {}
    async with client.stream("POST", "/v1/video/chat", json=body) as answer:
        answer.raise_for_status()
        async for line in answer.aiter_lines():
            if not line.startswith("data: {"):
                continue
            chunk = json.loads(line.removeprefix("data: "))
            text += "".join(choice["delta"].get("content") or "" for choice in chunk["choices"])
            first = first or (time.monotonic() - begin if text else 0.0)
            usage = chunk.get("usage") or usage
            receipt = chunk.get("receipt") or receipt
    return StreamedAnswer(text, first, usage, receipt)


def user(text: str) -> dict[str, str]:
    """A question as a message."""
    return {"role": "user", "content": text}
