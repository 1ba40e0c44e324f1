"""Videos as a field of the whole request, on both routes, and what our own route takes beside that."""

import base64
import json
from typing import Any

import httpx
import openai
import pytest

from tests import fakes
from tests.server.conftest import RunningServer, error_of
from tests.server.dialogues.bodies import END, part, said
from tests.server.test_frame_lists import data_of

ASK = {"role": "user", "content": "!videos"}
BOTH = ("/v1/chat/completions", "/v1/video/chat")
PICTURE, PLACE = {"type": "image_url", "text": "a"}, "messages[0].content[0]"
MISSING = "vid_" + "0" * 32


def data_url(content: bytes) -> str:
    return "data:video/mp4;base64," + base64.b64encode(content).decode()


def answer(client: httpx.Client, path: str, **body: Any) -> dict[str, Any]:
    reply = client.post(path, json={"model": fakes.MANY, "messages": [ASK]} | body)
    assert reply.status_code == 200, reply.text
    return reply.json()


def text_of(body: dict[str, Any]) -> str:
    return body["choices"][0]["message"]["content"].strip()


def counts(body: dict[str, Any]) -> list[tuple[str, int]]:
    shown = body["receipt"].get("videos") or [body["receipt"]]
    return [(each["video"], each["frames"]["count"]) for each in shown]


@pytest.mark.parametrize("path", BOTH)
def test_a_video_may_be_spelled_in_every_way(
    client: httpx.Client, path: str, first: str, clip: bytes
) -> None:
    for video in (first, {"url": first}, [first], [{"url": first}]):
        assert counts(answer(client, path, video=video)) == [(first, 4)]
    for video in (data_url(clip), {"url": data_url(clip)}, [data_url(clip)]):
        assert counts(answer(client, path, video=video)) == [("inline", 4)]


@pytest.mark.parametrize("path", BOTH)
def test_several_have_their_own_sampling_or_the_requests(
    client: httpx.Client, path: str, first: str, second: str, unseen: bytes
) -> None:
    videos = [second, {"url": first, **END}, data_url(unseen)]
    body = answer(client, path, video=videos, sampling={"num_frames": 3})
    assert counts(body) == [(second, 3), (first, 2), ("inline", 3)]
    assert text_of(body) == "0:0 0:0 0:0"


@pytest.mark.parametrize("path", BOTH)
def test_our_own_body_is_one_of_openais_as_well(client: httpx.Client, path: str, first: str) -> None:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "a"},
                {"role": "assistant", "content": "b"}, ASK]  # fmt: skip
    body = answer(client, path, video=first, messages=messages, sampling={"num_frames": 2}, seed=1)
    assert (text_of(body), counts(body)) == ("1:0", [(first, 2)])


def test_videos_of_messages_come_beside_the_requests(client: httpx.Client, first: str, second: str) -> None:
    messages = [said("what", part(second)), said("!videos", part(first))]
    body = answer(client, BOTH[0], video=first, messages=messages)
    assert (text_of(body), [name for name, _ in counts(body)]) == ("0:0 0:5", [first, second])


def test_data_in_a_message_of_our_own_route_is_found(client: httpx.Client, first: str, unseen: bytes) -> None:
    message = ASK | {"videos": [{"video": data_url(unseen), "sampling": {"num_frames": 2}}]}
    assert counts(answer(client, BOTH[1], video=first, messages=[message])) == [(first, 4), ("inline", 2)]


WRONG: dict[str, tuple[object, str, str]] = {
    "unknown": (MISSING, "video_not_found", "video"),
    "unknown in a list": ([MISSING], "video_not_found", "video[0]"),
    "no video": (data_url(b"no video"), "unsupported_media", "video"),
    "no video in a list": ([data_url(b"no video")], "unsupported_media", "video[0]"),
    "no video in an object": ({"url": data_url(b"no video" * 9)}, "unsupported_media", "video"),
    "no base64": (["data:video/mp4;base64,#"], "invalid_value", "video[0]"),
    "remote": ("https://example.com/a.mp4", "url_fetching_disabled", "video"),
    "a number": (3, "invalid_value", "video"),
    "a number in a list": ([3], "invalid_value", "video[0]"),
    "an unknown field": ([{"url": "vid_", "frames": 3}], "unknown_parameter", "video[0].frames"),
    "an empty list": ([], "invalid_value", "video"),
    "frames": ({"url": "vid_", "num_frames": 0}, "invalid_value", "sampling.num_frames"),
}


@pytest.mark.parametrize("path", BOTH)
@pytest.mark.parametrize("name", WRONG)
def test_a_video_that_cannot_be_used_is_refused_by_its_field(
    client: httpx.Client, path: str, name: str
) -> None:
    video, code, param = WRONG[name]
    reply = client.post(path, json={"video": video, "messages": [ASK]})
    assert reply.status_code in {400, 404, 415}
    assert (error_of(reply)["code"], error_of(reply)["param"]) == (code, param)


def test_openais_client_sends_it_as_a_further_field(
    shared: RunningServer, client: httpx.Client, first: str
) -> None:
    with openai.OpenAI(base_url=f"{shared.url}/v1", api_key="none", max_retries=0) as api:
        reply: Any = api.chat.completions.create(
            model=fakes.MANY,
            messages=[{"role": "user", "content": "what is it"}],
            extra_body={"video": first, "sampling": {"num_frames": 2}},
        )
    assert counts(reply.model_dump()) == [(first, 2)]


# --- pictures, as clients send them that know no video


def test_pictures_are_clips_of_one_frame_each_in_its_place(client: httpx.Client) -> None:
    urls = [f"data:image/jpeg;base64,{data_of(number)}" for number in (0, 1)]
    parts = [{"type": "image_url", "image_url": {"url": url, "detail": "high"}} for url in urls]
    body = answer(client, BOTH[0], messages=[said("one", parts[0], "two", parts[1], "!videos")])
    assert (text_of(body), counts(body)) == ("0:4 0:8", [("inline", 1), ("inline", 1)])
    body = answer(client, BOTH[0], messages=[said(parts[0], "!videos")], model=fakes.MODEL)
    assert counts(body) == [("inline", 1)]


def test_more_pictures_than_a_model_takes_are_refused_by_their_place(client: httpx.Client) -> None:
    urls = [f"data:image/jpeg;base64,{data_of(number)}" for number in (0, 1)]
    parts = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    error = error_of(client.post(BOTH[0], json={"model": fakes.MODEL, "messages": [said(*parts, "what")]}))
    assert (error["code"], error["param"]) == ("too_many_videos", "messages[0].content[1].image_url.url")


# --- our own route: what those send who come from OpenAI's


def own(client: httpx.Client, video: str, **body: Any) -> httpx.Response:
    return client.post("/v1/video/chat", json={"model": fakes.MODEL, "video": video, **body})


@pytest.mark.parametrize(
    "asked",
    [
        {"question": "what is it"},
        {"messages": "what is it"},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "what is it"}]}]},
    ],
)
def test_a_question_may_be_a_text_alone(client: httpx.Client, first: str, asked: dict[str, Any]) -> None:
    assert text_of(own(client, first, **asked).raise_for_status().json()) == "what is it"


@pytest.mark.parametrize(
    ("changes", "code", "param"),
    [
        ({}, "missing_required_parameter", "messages"),
        ({"question": "a", "messages": [ASK]}, "invalid_value", "question"),
        ({"question": " "}, "invalid_value", "messages[0].content"),
        ({"messages": ""}, "invalid_value", "messages[0].content"),
        ({"question": "a", "n": 9}, "invalid_value", "n"),
        ({"question": "a", "n": 2, "model": [fakes.MODEL, fakes.MANY]}, "invalid_value", "n"),
        ({"question": "a", "max_completion_tokens": 0}, "invalid_value", "max_completion_tokens"),
        ({"messages": [{"role": "user", "content": [PICTURE]}]}, "invalid_value", f"{PLACE}.type"),
    ],
)  # fmt: skip
def test_a_question_that_is_none_is_refused(
    client: httpx.Client, first: str, changes: dict[str, Any], code: str, param: str
) -> None:
    reply = own(client, first, **changes)
    assert (reply.status_code, error_of(reply)["code"], error_of(reply)["param"]) == (400, code, param)


def test_choices_are_given_as_on_openais_route(client: httpx.Client, first: str) -> None:
    body = own(client, first, question="what is it", n=2, max_completion_tokens=9).raise_for_status().json()
    assert [(each["index"], each["message"]["content"]) for each in body["choices"]] == [
        (0, "what is it "), (1, "what is it "),
    ]  # fmt: skip
    assert body["usage"]["completion_tokens"] == 6


@pytest.mark.parametrize(
    ("options", "usages"), [(None, 1), ({"include_usage": True}, 1), ({"include_usage": False}, 0)]
)
def test_usage_ends_a_stream_unless_it_is_not_wanted(
    client: httpx.Client, first: str, options: dict[str, bool] | None, usages: int
) -> None:
    text = own(client, first, question="what", stream=True, stream_options=options).text
    chunks = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]
    assert sum(not chunk["choices"] for chunk in chunks) == usages
