"""What a request says of its answer reaches the engine, on both routes."""

from typing import Any

import httpx
import pytest

from tests import fakes
from tests.server.conftest import count, error_of, question

OPTIONS: dict[str, Any] = {
    "max_tokens": 90, "temperature": 0.7, "top_p": 0.8, "top_k": 9, "min_p": 0.1, "seed": 3,
    "stop": ["a", "b"], "ignore_eos": True, "repetition_penalty": 1.1, "presence_penalty": 0.2,
    "frequency_penalty": -0.3,
}  # fmt: skip
ROUTES = ("/v1/video/chat", "/v1/chat/completions")


def answered(client: httpx.Client, path: str, video: str, text: str, **options: object) -> dict[str, Any]:
    """The first choice."""
    body: dict[str, Any] = question(video, text)
    if path == "/v1/chat/completions":
        parts = [{"type": "video_url", "video_url": video}, {"type": "text", "text": text}]
        body = {"model": fakes.MODEL, "messages": [{"role": "user", "content": parts}]}
    answer = client.post(path, json=body | options)
    assert answer.status_code == 200, answer.text
    return answer.json()["choices"][0]


@pytest.mark.parametrize("path", ROUTES)
def test_every_option_reaches_the_engine(client: httpx.Client, video: str, path: str) -> None:
    text = answered(client, path, video, "!options", **OPTIONS)["message"]["content"]
    assert text == "".join(f"{name}={OPTIONS[name]} " for name in sorted(OPTIONS))


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_an_answer_ends_at_the_most_tokens_whatever_they_are_called(
    client: httpx.Client, video: str, name: str
) -> None:
    choice = answered(client, "/v1/chat/completions", video, "one two three", **{name: 2})
    assert (choice["message"]["content"], choice["finish_reason"]) == ("one two ", "length")


@pytest.mark.parametrize("path", [*ROUTES, "/v1/responses"])
def test_a_bias_of_a_token_that_there_is_not_is_refused_before_a_video_is_decoded(
    client: httpx.Client, unseen: bytes, path: str
) -> None:
    video = client.post("/v1/video/uploads", content=unseen).json()["id"]
    size = fakes.CARD.vocab_size
    assert size is not None
    asked = {"input": "what?"} if path == "/v1/responses" else {"messages": question(video)["messages"]}
    body = {"model": fakes.MODEL, "video": video, **asked}
    decoded = count(client, "btchat_videos_decoded_total")
    answer = client.post(path, json=body | {"logit_bias": {"5": 1, str(size): 1}})
    error = error_of(answer)
    assert (answer.status_code, error["code"], error["param"]) == (400, "invalid_value", "logit_bias")
    assert error["message"] == f"logit_bias is [{size}]; allowed: token ids 0 to {size - 1}"
    assert count(client, "btchat_videos_decoded_total") == decoded
    assert client.post(path, json=body | {"logit_bias": {str(size - 1): 1}}).status_code == 200
