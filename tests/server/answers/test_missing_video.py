"""Questions that speak of a video and carry none."""

from pathlib import Path
from typing import Any

import httpx
import pytest

from bt_model.types import Turn
from server.answers.missing_video import warnings_without_video
from server.settings import Settings
from tests import fakes
from tests.server.conftest import QUICK, error_of, running

SPEAKS = (
    "what happens in the video?",
    "Describe this CLIP.",
    "see https://example.com/a.mp4",
    "What is shown? (youtu.be/abc)",
    "¿Qué pasa en el vídeo?",
    "Was geschieht in diesem Film?",
    "视频里有什么",
    "¿qué pasa en la película?",
    "Was passiert im Videoclip?",
    "что происходит на видео?",
)
SILENT = ("hi", "what is the capital of France?", "eclipse", "filmed", "write me a poem")


@pytest.mark.parametrize("text", SPEAKS)
def test_a_text_that_speaks_of_a_video_is_warned_of(text: str) -> None:
    (warning,) = warnings_without_video([Turn("user", text), Turn("assistant", "x"), Turn("user", "and?")])
    assert warning.code == "no_video"
    assert "video_url" in warning.message


@pytest.mark.parametrize("text", SILENT)
def test_any_other_text_is_not(text: str) -> None:
    assert warnings_without_video([Turn("system", "You see videos."), Turn("user", text)]) == ()


@pytest.mark.parametrize("stream", [False, True])
def test_the_answer_says_so(client: httpx.Client, stream: bool) -> None:
    answer = client.post("/v1/chat/completions", json=asked("what is in the video", stream=stream))
    body = answer.json() if not stream else last_chunk(answer)
    assert body["receipt"]["video"] is None
    assert [warning["code"] for warning in body["warnings"]] == ["no_video"]


def test_an_answer_about_a_video_has_no_warning(client: httpx.Client, video: str) -> None:
    parts = [{"type": "video_url", "video_url": video}, {"type": "text", "text": "what is in the video"}]
    body = client.post("/v1/chat/completions", json=asked(parts)).json()
    assert body["receipt"]["video"] == video
    assert "warnings" not in body


def test_a_server_may_refuse_it(tmp_path: Path) -> None:
    settings = Settings.model_validate(QUICK | {"data_dir": tmp_path, "require_video": True})
    with running(settings) as server, server.client() as client:
        error = error_of(client.post("/v1/chat/completions", json=asked("hi")))
    assert (error["code"], error["param"]) == ("video_required", "messages")


def asked(content: object, **more: object) -> dict[str, object]:
    return {"model": fakes.MODEL, "messages": [{"role": "user", "content": content}], **more}


def last_chunk(answer: httpx.Response) -> dict[str, Any]:
    lines = [line for line in answer.text.splitlines() if line.startswith("data: {")]
    return httpx.Response(200, text=lines[-1].removeprefix("data: ")).json()
