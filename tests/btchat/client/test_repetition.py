"""What a client sends again is done once; and videos whose pixels were deleted, or all of them."""

from pathlib import Path
from typing import Any

import httpx
import pytest

from btchat.client import BtchatAPIError
from tests.btchat.client.conftest import Connect, padded
from tests.server.conftest import RunningServer, count


def test_a_repetition_has_the_key_of_the_first_attempt_and_another_call_another(connect: Connect) -> None:
    seen: list[httpx.Request] = []

    def handle(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        if len(seen) == 1:
            raise httpx.ReadError("reset")
        if len(seen) == 2:
            return httpx.Response(503, json={"error": {"message": "not now"}})
        done = {"message": {"content": "yes"}, "index": 0, "finish_reason": "stop"}
        return httpx.Response(200, json={"model": "m", "choices": [done]})

    client = connect("http://x", transport=httpx.MockTransport(handle))
    assert client.ask("vid_1", "q").text == "yes"
    assert client.ask("vid_1", "q").text == "yes"
    keys = [request.headers["idempotency-key"] for request in seen]
    assert len(keys) == 4
    assert len(set(keys[:3])) == 1
    assert keys[3] != keys[0]
    assert len({request.content for request in seen}) == 1


def test_only_what_changes_something_has_a_key(connect: Connect) -> None:
    seen: list[httpx.Request] = []

    def handle(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, json={"data": []})

    connect("http://x", transport=httpx.MockTransport(handle)).models()
    assert "idempotency-key" not in seen[0].headers


def test_an_answer_that_was_lost_on_its_way_is_not_made_again(
    connect: Connect, server: RunningServer, clip: Path
) -> None:
    answers: list[httpx.Response] = []

    def handle(request: httpx.Request) -> httpx.Response:
        """Passed on to the server, whose first answer never arrives."""
        with httpx.Client(trust_env=False) as forward:
            answers.append(forward.send(request))
        if len(answers) == 1:
            raise httpx.ReadError("reset")
        return httpx.Response(200, headers=answers[-1].headers, content=answers[-1].content)

    video = connect(server.url).upload(clip)
    with server.client() as web:
        before = count(web, "btchat_request_success_total")
        answer = connect(server.url, transport=httpx.MockTransport(handle)).ask(video, "once")
        assert (answer.text, len(answers)) == ("once ", 2)
        assert answers[1].headers["idempotent-replayed"] == "true"
        assert count(web, "btchat_request_success_total") == before + 1


def test_pixels_are_deleted_and_the_same_bytes_bring_them_back(
    client: Any, clip: Path, tmp_path: Path
) -> None:
    path = tmp_path / "own.mp4"
    padded(clip, path, 99)
    video = client.upload(path)
    client.ask(video, "what?")
    gone = client.delete(video.id, keep="tokens")
    assert (gone.id, gone.deleted, gone.removed.file_bytes) == (video.id, False, video.bytes)
    assert client.get(video.id).pixels is False
    assert client.ask(video, "and now?").receipt.cache.features == "hit"
    for call in (client.frames, client.estimate):
        with pytest.raises(BtchatAPIError) as caught:
            call(video.id)
        assert (caught.value.status, caught.value.code) == (410, "pixels_forgotten")
    again = client.upload(path)
    assert (again.id, again.pixels) == (video.id, True)
    assert client.estimate(video.id).fits
    assert client.delete(video.id).removed.file_bytes == video.bytes
