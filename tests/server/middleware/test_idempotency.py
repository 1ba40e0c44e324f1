"""Requests that are sent again with the same Idempotency-Key."""

import hashlib
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from server.middleware import idempotency
from server.middleware.idempotency import KeptAnswers, RecordedAnswer
from server.settings import Settings
from tests import fakes
from tests.server.conftest import QUICK, RunningServer, count, error_of, question, running

CHAT, COMPLETIONS, UPLOADS = "/v1/video/chat", "/v1/chat/completions", "/v1/video/uploads"
REPLAYED = "idempotent-replayed"


@pytest.fixture
def key() -> dict[str, str]:
    return {"idempotency-key": uuid4().hex}


def completion(text: str, **more: object) -> dict[str, object]:
    return {"model": fakes.MODEL, "messages": [{"role": "user", "content": text}], **more}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
def test_an_answer_is_given_again_and_not_made_again(
    client: httpx.Client, server: RunningServer, video: str, key: dict[str, str], path: str, stream: bool
) -> None:
    body = question(video, stream=stream) if path == CHAT else completion("hello you", stream=stream)
    first = client.post(path, json=body, headers=key)
    asked = server.stats()["fake_asked_total"]
    second = client.post(path, json=body, headers=key)
    assert server.stats()["fake_asked_total"] == asked
    assert (second.status_code, second.content) == (200, first.content)
    assert REPLAYED not in first.headers
    assert second.headers[REPLAYED] == "true"
    assert second.headers["content-type"] == first.headers["content-type"]
    assert second.headers["x-request-id"] != first.headers["x-request-id"]
    assert second.headers["x-ratelimit-limit-requests"]


def test_an_upload_that_is_sent_again_is_one_video(
    client: httpx.Client, unseen: bytes, key: dict[str, str]
) -> None:
    sent = [client.post(UPLOADS, content=unseen, headers=key) for _ in range(2)]
    raw = [answer.json()["id"] for answer in sent]
    assert sent[1].headers[REPLAYED]
    form = {"idempotency-key": f"{key['idempotency-key']} form"}
    other = unseen + unseen[-16:]  # the box that readers skip, once more
    forms = [client.post(UPLOADS, files={"file": other}, headers=form) for _ in range(2)]
    assert forms[1].headers[REPLAYED]
    assert raw[0] == raw[1] != forms[0].json()["id"] == forms[1].json()["id"]
    newest = client.get(UPLOADS, params={"limit": 5}).json()["data"]
    assert [video["id"] for video in newest][:2] == [forms[0].json()["id"], raw[0]]
    assert [video["sha256"] for video in newest].count(hashlib.sha256(unseen).hexdigest()) == 1


def test_tus_begins_one_upload(client: httpx.Client, key: dict[str, str]) -> None:
    headers = {**key, "tus-resumable": "1.0.0", "upload-length": "5"}
    answers = [client.post(f"{UPLOADS}/resumable", headers=headers) for _ in range(2)]
    assert {answer.status_code for answer in answers} == {201}
    (place,) = {answer.headers["location"] for answer in answers}
    assert client.delete(place, headers={"tus-resumable": "1.0.0"}).status_code == 204


@pytest.mark.parametrize("more", [{"json": completion("two")}, {"params": {"filename": "b.mp4"}}])
def test_another_request_under_the_key_is_refused(
    client: httpx.Client, clip: bytes, key: dict[str, str], more: dict[str, object]
) -> None:
    path = COMPLETIONS if "json" in more else UPLOADS
    first = {"json": completion("one")} if "json" in more else {"content": clip}
    assert client.post(path, headers=key, **first).status_code == 200  # pyright: ignore[reportArgumentType] - passed on
    other = client.post(path, headers=key, **{**first, **more})  # pyright: ignore[reportArgumentType] - passed on
    error = error_of(other)
    assert (other.status_code, error["code"]) == (400, "idempotency_key_reused")
    assert error["param"] == "Idempotency-Key"
    assert client.post(path, headers=key, **first).headers[REPLAYED]  # pyright: ignore[reportArgumentType] - passed on


def test_forms_of_one_length_are_told_apart(client: httpx.Client, key: dict[str, str], unseen: bytes) -> None:
    first = client.post(UPLOADS, files={"file": unseen}, headers=key)
    other = client.post(UPLOADS, files={"file": bytes(len(unseen))}, headers=key)
    assert (first.status_code, other.status_code) == (200, 400)
    assert other.json()["error"]["code"] == "idempotency_key_reused"


def test_a_deletion_of_nothing_forgets_nothing(client: httpx.Client, key: dict[str, str]) -> None:
    first = client.post(COMPLETIONS, json=completion("kept"), headers=key)
    assert client.delete(f"{UPLOADS}/vid_{'0' * 32}").status_code == 404
    again = client.post(COMPLETIONS, json=completion("kept"), headers=key)
    assert again.headers[REPLAYED]
    assert again.content == first.content


def test_what_is_answered_during_a_deletion_is_not_given_again(
    client: httpx.Client, key: dict[str, str], unseen: bytes
) -> None:
    video = client.post(UPLOADS, content=unseen).json()["id"]
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(client.post, COMPLETIONS, json=completion("!late"), headers=key)
        while not count(client, "btchat_num_requests_in_flight"):
            time.sleep(0.02)
        assert client.delete(f"{UPLOADS}/{video}").status_code == 200
        assert running.result().status_code == 200
    again = client.post(COMPLETIONS, json=completion("!late"), headers=key)
    assert REPLAYED not in again.headers


def test_keys_of_other_paths_and_other_keys_are_others(
    client: httpx.Client, key: dict[str, str], video: str
) -> None:
    assert client.post(COMPLETIONS, json=completion("one"), headers=key).status_code == 200
    for path, headers in ((CHAT, key), (COMPLETIONS, {"idempotency-key": "other " + uuid4().hex})):
        body = question(video) if path == CHAT else completion("two")
        assert REPLAYED not in client.post(path, json=body, headers=headers).headers


def test_who_comes_while_the_first_is_answered_waits_for_it(
    client: httpx.Client, server: RunningServer, key: dict[str, str]
) -> None:
    asked = server.stats()["fake_asked_total"]
    body = completion("!late")

    def ask(_: int) -> httpx.Response:
        with server.client() as own:
            return own.post(COMPLETIONS, json=body, headers=key)

    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(ask, range(4)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.content for answer in answers}) == 1
    assert sum(REPLAYED in answer.headers for answer in answers) == 3
    assert server.stats()["fake_asked_total"] == asked + 1


def test_what_failed_is_tried_again(client: httpx.Client, key: dict[str, str], video: str) -> None:
    stranger = question("vid_" + "0" * 32)
    for _ in range(2):
        answer = client.post(CHAT, json=stranger, headers=key)
        assert (answer.status_code, REPLAYED in answer.headers) == (404, False)
    assert client.post(CHAT, json=question(video), headers=key).status_code == 200


def test_a_stream_that_broke_is_tried_again(client: httpx.Client, key: dict[str, str]) -> None:
    body = completion("!fail after 3", stream=True)
    for _ in range(2):
        answer = client.post(COMPLETIONS, json=body, headers=key)
        assert answer.status_code == 200
        assert '"error"' in answer.text
        assert REPLAYED not in answer.headers


def test_an_answer_whose_reader_left_is_made_for_the_one_who_comes_again(
    client: httpx.Client, key: dict[str, str]
) -> None:
    body = completion("!late", stream=True)
    with client.stream("POST", COMPLETIONS, json=body, headers=key) as answer:
        next(answer.iter_lines())
    again = client.post(COMPLETIONS, json=body, headers=key)
    assert again.text.endswith("data: [DONE]\n\n")
    assert REPLAYED not in again.headers


@pytest.mark.parametrize("key", ["", "a" * 256, "é".encode()])
def test_a_key_that_is_none_is_refused(client: httpx.Client, key: str | bytes) -> None:
    answer = client.post(COMPLETIONS, json=completion("x"), headers=[(b"idempotency-key", key)])  # pyright: ignore[reportArgumentType] - bytes are taken
    assert (answer.status_code, error_of(answer)["param"]) == (400, "Idempotency-Key")


def test_a_repetition_whose_body_stalls_is_refused_as_others_are(
    client: httpx.Client, key: dict[str, str]
) -> None:
    content = json.dumps(completion("hello")).encode()
    headers = {**key, "content-type": "application/json"}
    assert client.post(COMPLETIONS, content=content, headers=headers).status_code == 200

    def stalling() -> Iterator[bytes]:
        yield content[:10]
        time.sleep(1.5)
        yield content[10:]

    stalled = client.post(COMPLETIONS, content=stalling(), headers=headers)
    assert (stalled.is_error, error_of(stalled)["code"]) == (True, "body_timeout")


def test_nobody_gets_the_answer_of_another_and_a_deletion_forgets(tmp_path: Path, clip: bytes) -> None:
    (tmp_path / "keys").write_text("first-key-of-ours\nsecond-key-of-ours\n", encoding="ascii")
    more = {"data_dir": tmp_path / "data", "api_keys_file": tmp_path / "keys"}
    with running(Settings.model_validate(QUICK | more)) as server, server.client() as client:
        first, second = ({"authorization": f"Bearer {name}-key-of-ours"} for name in ("first", "second"))
        same = {"idempotency-key": "same"}
        mine = client.post(UPLOADS, content=clip, headers=first | same).json()["id"]
        theirs = client.post(UPLOADS, content=clip, headers=second | same).json()["id"]
        assert mine != theirs
        client.delete(f"{UPLOADS}/{mine}", headers=first)
        assert client.post(UPLOADS, content=clip, headers=first | same).json()["id"] not in (mine, theirs)
        assert client.post(UPLOADS, content=clip, headers=second | same).json()["id"] == theirs


def _answer(num_bytes: int) -> RecordedAnswer:
    answer = RecordedAnswer()
    answer.add({"type": "http.response.start", "status": 200})
    answer.add({"type": "http.response.body", "body": b"x" * num_bytes})
    return answer


def test_no_more_is_kept_than_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idempotency, "KEPT_ANSWERS", 6)
    monkeypatch.setattr(idempotency, "KEPT_BYTES", 20)
    kept = KeptAnswers(num_tenants=2)
    for number in range(4):
        kept.keep(("/", str(number)), _answer(1))
    assert [kept.find(("/", str(number))) is not None for number in range(4)] == [False, True, True, True]
    kept.keep(("/", "large"), _answer(9))
    assert [kept.find(("/", name)) is not None for name in ("2", "3", "large")] == [False, True, True]
    kept.keep(("/", "too large"), _answer(11))
    assert kept.find(("/", "too large")) is None
    assert kept.find(("/", "large")) is not None


def test_an_answer_is_forgotten_after_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = KeptAnswers(1)
    kept.keep(("/", "a"), _answer(1))
    assert kept.find(("/", "a")) is not None
    monkeypatch.setattr(idempotency, "KEPT_SECONDS", 0.0)
    time.sleep(0.01)
    assert kept.find(("/", "a")) is None


def test_what_is_too_long_is_not_held_while_it_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idempotency, "LARGEST_BYTES", 3)
    answer = _answer(2)
    answer.add({"type": "http.response.body", "body": b"xx"})
    assert answer.chunks == []
