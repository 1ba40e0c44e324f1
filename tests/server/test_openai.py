"""The official client against our server."""

import base64
import json
from collections.abc import Iterator
from typing import Any, cast

import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam

from tests import fakes
from tests.server.conftest import RunningServer, count, error_of
from tests.server.test_streams import until


@pytest.fixture(scope="module")
def api(server: RunningServer) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as api:
        yield api


def about(
    video: object, text: str = "what is it", kind: str = "video_url"
) -> list[ChatCompletionMessageParam]:
    parts = [{"type": kind, kind: video}, {"type": "text", "text": text}]
    return cast("list[ChatCompletionMessageParam]", [{"role": "user", "content": parts}])


def data_url(clip: bytes) -> str:
    return "data:video/mp4;base64," + base64.b64encode(clip).decode()


def test_a_stream_with_usage_is_read(api: openai.OpenAI, video: str) -> None:
    stream = api.chat.completions.create(
        model=fakes.MODEL,
        messages=about({"url": video}),
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == "what is it "
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"
    assert chunks[-1].usage is not None
    assert chunks[-1].choices == []
    assert chunks[-1].usage.total_tokens == chunks[-1].usage.prompt_tokens + 3
    assert len({(c.id, c.created, c.model) for c in chunks}) == 1
    receipt = cast(Any, chunks[-2]).receipt
    assert receipt["frames"]["count"] == fakes.CARD.default_frames


def test_usage_comes_with_every_chunk_where_that_is_asked_for(api: openai.OpenAI, video: str) -> None:
    stream = api.chat.completions.create(
        model=fakes.MODEL,
        messages=about(video, "one two three"),
        stream=True,
        stream_options=cast(Any, {"include_usage": True, "continuous_usage_stats": True}),
    )
    role, *others = list(stream)
    assert role.usage is None  # before the prompt is made
    counts = [(each.usage.prompt_tokens, each.usage.completion_tokens) for each in others if each.usage]
    assert counts == [(7, 1), (7, 2), (7, 3), (7, 3), (7, 3)]


def test_usage_is_left_out_unless_asked_for(api: openai.OpenAI, video: str) -> None:
    chunks = list(api.chat.completions.create(model=fakes.MODEL, messages=about(video), stream=True))
    assert all(chunk.choices and chunk.usage is None for chunk in chunks)


def test_the_stream_helper_accepts_our_chunks(api: openai.OpenAI, video: str) -> None:
    with api.chat.completions.stream(model=fakes.MODEL, messages=about(video)) as stream:
        final = stream.get_final_completion()
    assert final.choices[0].message.content == "what is it "


def test_a_whole_answer_is_read(api: openai.OpenAI, video: str) -> None:
    answer = api.chat.completions.create(model=fakes.MODEL, messages=about(video), max_completion_tokens=9)
    assert answer.choices[0].message.content == "what is it "
    assert answer.usage is not None
    assert answer.system_fingerprint == fakes.CARD.model_fingerprint
    assert cast(Any, answer).receipt["video"] == video


def test_a_dialogue_without_a_video_is_answered(api: openai.OpenAI) -> None:
    answer = api.chat.completions.create(model=fakes.MODEL, messages=[{"role": "user", "content": "hello"}])
    assert answer.choices[0].message.content == "hello "
    assert cast(Any, answer).receipt["video"] is None


def test_a_developers_message_is_a_system_message(api: openai.OpenAI) -> None:
    said = {"role": "developer", "content": "Be brief."}
    messages = cast("list[ChatCompletionMessageParam]", [said, {"role": "user", "content": "hello"}])
    answer = api.chat.completions.create(model=fakes.MODEL, messages=messages)
    assert answer.choices[0].message.content == "hello "


def test_an_answer_can_be_sent_back_as_history(api: openai.OpenAI, video: str) -> None:
    first = api.chat.completions.create(model=fakes.MODEL, messages=about(video))
    history = [*about(video), first.choices[0].message.model_dump(), {"role": "user", "content": "and now"}]
    second = api.chat.completions.create(
        model=fakes.MODEL, messages=cast("list[ChatCompletionMessageParam]", history)
    )
    assert second.choices[0].message.content == "and now "


@pytest.mark.parametrize("kind", ["video_url", "video", "input_video", "image_url", "file"])
def test_every_spelling_of_a_video_part_is_understood(
    api: openai.OpenAI, video: str, clip: bytes, kind: str
) -> None:
    spellings: list[object] = [video, {"url": video}, {"url": data_url(clip)}]
    if kind == "file":
        spellings = [{"file_id": video}, {"file_data": data_url(clip), "filename": "a.mp4"}]
    for spelling in spellings:
        answer = api.chat.completions.create(model=fakes.MODEL, messages=about(spelling, kind=kind))
        assert cast(Any, answer).receipt["frames"]["count"] == fakes.CARD.default_frames


def test_a_data_url_is_decoded_once(api: openai.OpenAI, server: RunningServer, unseen: bytes) -> None:
    with server.client() as client:
        before = count(client, "btchat_videos_decoded_total")
        for _ in range(2):
            api.chat.completions.create(model=fakes.MODEL, messages=about({"url": data_url(unseen)}))
        assert count(client, "btchat_videos_decoded_total") == before + 1
    until(lambda: list(server.services.store.incoming.iterdir()) == [])


@pytest.mark.parametrize(
    ("video_url", "extra", "expected"),
    [
        ({"num_frames": 2}, {}, 2),
        ({}, {"sampling": {"num_frames": 3}}, 3),
        ({}, {"media_io_kwargs": {"video": {"num_frames": 5}}}, 5),
        ({"num_frames": 2}, {"sampling": {"num_frames": 3}}, 2),
        ({"fps": 5}, {"media_io_kwargs": {"video": {"num_frames": 8}}}, 6),
        ({"start": 0.5, "end": 0.9}, {"sampling": {"num_frames": 3}}, 3),
        ({"fps": 25, "max_frames": 3}, {"sampling": {"num_frames": 5}}, 3),
        ({"fps": 5}, {"sampling": {"fps": 5, "max_frames": 3}}, 6),
        ({"num_frames": 2}, {"sampling": {"fps": 5, "max_frames": 3}}, 2),
    ],
)
def test_sampling_may_stand_in_three_places(
    api: openai.OpenAI, video: str, video_url: dict[str, object], extra: dict[str, object], expected: int
) -> None:
    messages = about({"url": video} | video_url)
    answer = api.chat.completions.create(model=fakes.MODEL, messages=messages, extra_body=extra)
    assert cast(Any, answer).receipt["frames"]["count"] == expected


def test_fields_that_change_nothing_are_ignored(api: openai.OpenAI, video: str) -> None:
    answer = api.chat.completions.create(
        model=fakes.MODEL, messages=about(video), user="me", metadata={"a": "b"}, store=False, n=1, tools=[]
    )
    assert answer.choices[0].finish_reason == "stop"


UNSUPPORTED: dict[str, object] = {
    "n": 9,
    "top_logprobs": 21,
    "tools": [{"type": "function", "function": {"name": "f"}}],
    "best_of": 3,
    "chat_template": "{{ x }}",
}


@pytest.mark.parametrize("param", UNSUPPORTED)
def test_a_field_that_would_change_the_answer_is_refused(api: openai.OpenAI, video: str, param: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        api.chat.completions.create(
            model=fakes.MODEL, messages=about(video), extra_body={param: UNSUPPORTED[param]}
        )
    assert str(caught.value.param).split("[")[0] == param
    assert caught.value.request_id


def test_alternatives_without_log_probabilities_are_refused(api: openai.OpenAI, video: str) -> None:
    with pytest.raises(openai.BadRequestError, match="top_logprobs is 2; allowed: 0 where") as caught:
        api.chat.completions.create(model=fakes.MODEL, messages=about(video), top_logprobs=2)
    assert caught.value.param == "top_logprobs"


def test_log_probabilities_are_read_whole_and_streamed(api: openai.OpenAI, video: str) -> None:
    options: Any = {"model": fakes.MODEL, "messages": about(video), "logprobs": True, "top_logprobs": 2}
    whole = api.chat.completions.create(**options).choices[0].logprobs
    assert whole is not None
    assert whole.content is not None
    assert [token.token for token in whole.content] == ["what ", "is ", "it "]
    assert all(bytes(token.bytes or ()) == token.token.encode() for token in whole.content)
    assert [len(token.top_logprobs) for token in whole.content] == [2, 2, 2]
    chunks = list(api.chat.completions.create(**options, stream=True))
    streamed = [c.choices[0].logprobs for c in chunks if c.choices[0].logprobs is not None]
    assert [token for each in streamed for token in each.content or ()] == whole.content


def test_choices_are_told_apart_whole_and_streamed(api: openai.OpenAI, video: str) -> None:
    options: Any = {"model": fakes.MODEL, "messages": about(video), "n": 3}
    answer = api.chat.completions.create(**options)
    assert [(c.index, c.message.content) for c in answer.choices] == [(i, "what is it ") for i in range(3)]
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (7, 9)
    chunks = list(api.chat.completions.create(**options, stream=True))
    texts, ends = ["", "", ""], list[int]()
    for choice in (choice for chunk in chunks for choice in chunk.choices):
        texts[choice.index] += choice.delta.content or ""
        ends += [choice.index] if choice.finish_reason else []
    assert texts == ["what is it "] * 3
    assert sorted(ends) == [0, 1, 2]


def test_each_choice_counts_as_a_request(server: RunningServer, video: str) -> None:
    with server.client() as client, server.services.admission.enter("public", 250):
        body = {"model": fakes.MODEL, "messages": about(video)}
        assert client.post("/v1/chat/completions", json=body | {"n": 6}).status_code == 200
        assert client.post("/v1/chat/completions", json=body | {"n": 7}).status_code == 503


WRONG_VIDEOS: dict[str, tuple[object, str, str, str]] = {
    "remote": ({"url": "https://example.com/a.mp4"}, "video_url", "url_fetching_disabled", "video_url.url"),
    "local": ({"url": "file:///etc/passwd"}, "video_url", "invalid_value", "video_url.url"),
    "not base64": ({"url": "data:video/mp4;base64,#"}, "video_url", "invalid_value", "video_url.url"),
    "other media": ({"url": "data:text/plain,AA=="}, "video_url", "invalid_value", "video_url.url"),
    "image": ({"url": "data:image/svg+xml,<svg>"}, "image_url", "invalid_value", "image_url.url"),
    "no picture in a list": (
        {"url": "data:video/jpeg;base64,AA==,,AA=="},
        "video_url",
        "invalid_value",
        "video_url.url",
    ),
    "no rate": ({"url": "data:video/jpeg;fps=0;base64,AA=="}, "video_url", "invalid_value", "video_url.url"),
    "unknown key": (
        {"url": "vid_", "most_frames": 3},
        "video_url",
        "unknown_parameter",
        "video_url.most_frames",
    ),
    "seed out of range": ({"url": "vid_", "seed": -1}, "video_url", "invalid_value", "video_url.seed"),
    "no value": (None, "video_url", "missing_required_parameter", "video_url"),
    "no url": ({}, "video_url", "missing_required_parameter", "video_url.url"),
}


@pytest.mark.parametrize("name", WRONG_VIDEOS)
def test_a_video_that_cannot_be_used_is_never_answered_as_text(api: openai.OpenAI, name: str) -> None:
    value, kind, code, param = WRONG_VIDEOS[name]
    with pytest.raises(openai.BadRequestError) as caught:
        api.chat.completions.create(model=fakes.MODEL, messages=about(value, kind=kind))
    assert (caught.value.code, caught.value.param) == (code, f"messages[0].content[0].{param}")


LABELS = {
    "two codecs": lambda data: f"data:video/webm;codecs=vp8,opus;base64,{data}",
    "several parameters": lambda data: f'data:video/webm;codecs="vp9, opus";charset=x;base64,{data}',
    "capitals": lambda data: f"DATA:Video/MP4;BASE64,{data}",
    "no type": lambda data: f"data:;base64,{data}",
    "as an application": lambda data: f"data:application/mp4;base64,{data}",
    "as something else": lambda data: f"data:text/plain;base64,{data}",
    "as a picture": lambda data: f"data:image/jpeg;base64,{data}",
    "from a file picker": lambda data: f"data:application/octet-stream;base64,{data}",
    "lines": lambda data: f"data:video/mp4;base64,{data[:76]}\r\n{data[76:]}\n",
    "escaped": lambda data: f"data:video/mp4;base64,{data.replace('+', '%2B').replace('=', '%3D')}",
    "without padding": lambda data: f"data:video/mp4;base64,{data.rstrip('=')}",
}


@pytest.mark.parametrize("kind", ["video_url", "image_url"])
@pytest.mark.parametrize("name", LABELS)
def test_data_may_be_labelled_as_programs_do(api: openai.OpenAI, unseen: bytes, name: str, kind: str) -> None:
    url = LABELS[name](base64.b64encode(unseen).decode())
    answer = api.chat.completions.create(model=fakes.MODEL, messages=about({"url": url}, kind=kind))
    assert cast(Any, answer).receipt["video"] == "inline"


def test_half_a_character_in_an_id_is_refused(server: RunningServer) -> None:
    with server.client() as client:
        content = json.dumps({"model": fakes.MODEL, "messages": about("vid_\ud800")})
        answer = client.post(
            "/v1/chat/completions", content=content, headers={"content-type": "application/json"}
        )
    assert (answer.status_code, error_of(answer)["param"]) == (400, "messages[0].content[0].video_url.url")


def test_what_is_no_video_is_415(api: openai.OpenAI) -> None:
    with pytest.raises(openai.APIStatusError) as caught:
        api.chat.completions.create(model=fakes.MODEL, messages=about({"url": data_url(b"no video")}))
    assert (caught.value.status_code, cast(Any, caught.value).code) == (415, "unsupported_media")


def test_a_second_video_is_refused(api: openai.OpenAI, video: str, unseen: bytes) -> None:
    said: ChatCompletionMessageParam = {"role": "assistant", "content": "something"}
    messages = [*about(video), said, *about({"url": data_url(unseen)})]
    with pytest.raises(openai.BadRequestError) as caught:
        api.chat.completions.create(model=fakes.MODEL, messages=messages)
    assert (caught.value.code, caught.value.param) == (
        "too_many_videos",
        "messages[2].content[0].video_url.url",
    )


def test_a_failure_midway_is_raised_by_the_client(api: openai.OpenAI, video: str) -> None:
    stream = api.chat.completions.create(
        model=fakes.MODEL, messages=about(video, "!fail after 1"), stream=True
    )
    with pytest.raises(openai.APIError, match="scripted") as caught:
        list(stream)
    assert caught.value.code == "engine_error"


def test_models_are_listed_and_shown(api: openai.OpenAI) -> None:
    assert [model.id for model in api.models.list()] == [fakes.MODEL]
    model = api.models.retrieve(fakes.MODEL)
    assert (model.id, cast(Any, model).max_model_len) == (fakes.MODEL, fakes.CARD.max_context)
    with pytest.raises(openai.NotFoundError):
        api.models.retrieve("other")
