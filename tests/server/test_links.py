"""Uploads by their address over HTTP: what is refused before a host is asked."""

import httpx
import pytest

from tests.server.conftest import error_of

REFUSED = {
    "switched off": ('{"url": "https://films.example/clip.mp4"}', 400, "url_fetching_disabled", "url"),
    "no address": ('{"filename": "a"}', 400, "missing_required_parameter", "url"),
    "another type": ('{"url": ["https://films.example/"]}', 400, "invalid_value", "url"),
    "another field": ('{"url": "https://films.example/", "a": 1}', 400, "unknown_parameter", "a"),
    "no name": ('{"url": "https://films.example/", "filename": "\\n"}', 400, "invalid_value", "filename"),
    "no JSON": ("url=https://films.example/", 400, "invalid_json", None),
    "no object": ("[]", 400, "invalid_value", None),
    "nothing": ("", 400, "invalid_json", None),
    "a data URL of no video": ('{"url": "data:video/mp4;base64,AAAA"}', 415, "unsupported_media", "url"),
    "a data URL of no base64": ('{"url": "data:video/mp4;base64,#"}', 400, "invalid_value", "url"),
    "data of its own": ('{"url": "data:video/mp4,AAAA"}', 400, "invalid_value", "url"),
    "half a data URL": ('{"url": "data:video/mp4;base64,\\u00', 400, "invalid_json", None),
    "too long": ('{"url": "' + "a" * 17_000, 413, "body_too_large", "body"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_body_that_names_no_video_is_refused(client: httpx.Client, name: str) -> None:
    content, status, code, param = REFUSED[name]
    headers = {"content-type": "Application/JSON; charset=utf-8"}
    answer = client.post("/v1/video/uploads", content=content, headers=headers)
    error = error_of(answer)
    assert (answer.status_code, error["code"], error["param"]) == (status, code, param)


def test_a_video_that_its_client_calls_json_is_a_video(client: httpx.Client, unseen: bytes) -> None:
    """As openai's client does with content that it is given."""
    headers = {"content-type": "application/json"}
    assert client.post("/v1/video/uploads", content=unseen, headers=headers).status_code == 200
