"""Dialogues with several videos or windows, as clients send them on both routes."""

import secrets
from typing import Any

import httpx

from tests import fakes

ASK = "!videos"  # the fake says each video's turn and the character before which it stands
END = {"start": 0.6, "num_frames": 2}


def other(clip: bytes) -> bytes:
    """The same pictures in bytes that nobody else sends."""
    return clip + (16).to_bytes(4, "big") + b"free" + secrets.token_bytes(8)


def text_body(text: str, model: str = fakes.MANY) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": text}]}


def part(url: str, **sampling: object) -> dict[str, Any]:
    return {"type": "video_url", "video_url": {"url": url, **sampling}}


def said(*parts: dict[str, Any] | str) -> dict[str, Any]:
    """A user's message."""
    spelled = [{"type": "text", "text": each} if isinstance(each, str) else each for each in parts]
    return {"role": "user", "content": spelled}


ANSWER = {"role": "assistant", "content": "something"}


def dialogue(*messages: dict[str, Any], model: str = fakes.MANY, **more: object) -> dict[str, Any]:
    return {"model": model, "messages": list(messages), **more}


def asked(client: httpx.Client, body: dict[str, Any]) -> dict[str, Any]:
    answer = client.post("/v1/chat/completions", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def placed(body: dict[str, Any]) -> str:
    return body["choices"][0]["message"]["content"].strip()


def videos(receipt: dict[str, Any]) -> list[dict[str, Any]]:
    """How a client reads any receipt."""
    return receipt.get("videos") or [receipt]


def own(client: httpx.Client, video: str, *messages: dict[str, Any], **more: object) -> httpx.Response:
    body = {"video": video, "model": fakes.MANY, "messages": list(messages), **more}
    return client.post("/v1/video/chat", json=body)


def user(text: str, *seen: tuple[str, dict[str, Any] | None]) -> dict[str, Any]:
    shown = [
        {"video": video} | ({} if sampling is None else {"sampling": sampling}) for video, sampling in seen
    ]
    return {"role": "user", "content": text, "videos": shown}
