"""OpenAI's responses, by the official client."""

import json
from collections.abc import Iterator
from typing import Any, cast

import openai
import pytest
from openai.types.responses import Response, ResponseOutputMessage

from server.answers import kept_responses
from server.answers.kept_responses import KEPT_SECONDS, KeptResponses
from tests import fakes
from tests.server.conftest import RunningServer
from tests.server.test_openai import data_url


@pytest.fixture(scope="module")
def api(server: RunningServer) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as api:
        yield api


def about(*parts: dict[str, Any], text: str = "what is it") -> Any:
    return [{"role": "user", "content": [*parts, {"type": "input_text", "text": text}]}]


def receipt_of(response: Response) -> dict[str, Any]:
    return cast(Any, response).receipt


def test_a_text_is_answered(api: openai.OpenAI) -> None:
    response = api.responses.create(model=fakes.MODEL, input="hello there", metadata={"a": "b"})
    assert response.output_text == "hello there "
    assert (response.status, response.object, response.error) == ("completed", "response", None)
    assert response.metadata == {"a": "b"}
    assert response.usage is not None
    assert response.usage.total_tokens == response.usage.input_tokens + response.usage.output_tokens
    assert receipt_of(response)["video"] is None


@pytest.mark.parametrize(
    "kind",
    [
        {"type": "input_video", "video_url": "VIDEO"},
        {"type": "input_video", "file_id": "VIDEO", "num_frames": 3},
        {"type": "input_file", "file_id": "VIDEO", "filename": "clip.mp4"},
        {"type": "input_image", "image_url": "VIDEO", "detail": "auto"},
        {"type": "input_image", "file_id": "VIDEO", "detail": "low"},
    ],
)
def test_a_video_is_seen(api: openai.OpenAI, video: str, kind: dict[str, Any]) -> None:
    part = {name: video if value == "VIDEO" else value for name, value in kind.items()}
    response = api.responses.create(model=fakes.MODEL, input=about(part))
    assert response.output_text == "what is it "
    assert receipt_of(response)["video"] == video
    assert receipt_of(response)["frames"]["count"] == kind.get("num_frames", fakes.CARD.default_frames)


@pytest.mark.parametrize("field", ["image_url", "file_data", "video_url"])
def test_a_video_inside_of_the_request_is_seen(api: openai.OpenAI, clip: bytes, field: str) -> None:
    kind = {"image_url": "input_image", "file_data": "input_file", "video_url": "input_video"}[field]
    response = api.responses.create(model=fakes.MODEL, input=about({"type": kind, field: data_url(clip)}))
    assert receipt_of(response)["video"] == "inline"
    with pytest.raises(openai.BadRequestError) as caught:
        api.responses.create(model=fakes.MODEL, input="and then", previous_response_id=response.id)
    assert (caught.value.code, caught.value.param) == ("previous_response_not_found", "previous_response_id")


def test_the_events_of_a_stream_are_read(api: openai.OpenAI, video: str) -> None:
    part = {"type": "input_video", "video_url": video}
    with api.responses.stream(model=fakes.MODEL, input=about(part)) as stream:
        events = list(stream)
        final = stream.get_final_response()
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == (
        "what is it "
    )
    kinds = [event.type for event in events]
    assert kinds[:2] == ["response.created", "response.in_progress"]
    assert kinds[-1] == "response.completed"
    numbers = [event.sequence_number for event in events if hasattr(event, "sequence_number")]
    assert numbers == sorted(numbers)
    assert final.output_text == "what is it "
    assert receipt_of(final)["video"] == video


def test_events_have_names_and_no_end_of_their_own(server: RunningServer) -> None:
    body = {"model": fakes.MODEL, "input": "hello", "stream": True}
    with server.client() as client:
        text = client.post("/v1/responses", json=body).text
    assert "[DONE]" not in text
    lines = [line for line in text.splitlines() if line.startswith(("event:", "data:"))]
    for name, data in zip(lines[::2], lines[1::2], strict=True):
        assert json.loads(data.removeprefix("data:"))["type"] == name.removeprefix("event:").strip()


def test_an_answer_that_is_cut_is_incomplete(api: openai.OpenAI) -> None:
    response = api.responses.create(model=fakes.MODEL, input="one two three four", max_output_tokens=2)
    assert response.status == "incomplete"
    assert response.incomplete_details is not None
    assert response.incomplete_details.reason == "max_output_tokens"
    *_, last = api.responses.create(model=fakes.MODEL, input="one two", max_output_tokens=1, stream=True)
    assert last.type == "response.incomplete"


def test_an_answer_that_breaks_ends_in_an_event(api: openai.OpenAI) -> None:
    *_, last = api.responses.create(model=fakes.MODEL, input="!fail after 2", stream=True)
    assert last.type == "response.failed"
    assert last.response.error is not None
    assert last.response.error.message


def test_a_later_request_goes_on(api: openai.OpenAI, video: str) -> None:
    first = api.responses.create(
        model=fakes.MODEL,
        input=about({"type": "input_video", "file_id": video}),
        instructions="Be brief.",
    )
    second = api.responses.create(model=fakes.MODEL, input="and then", previous_response_id=first.id)
    assert receipt_of(second)["video"] == video
    assert api.responses.retrieve(first.id).output_text == first.output_text
    api.responses.delete(first.id)
    with pytest.raises(openai.NotFoundError):
        api.responses.retrieve(first.id)
    with pytest.raises(openai.BadRequestError) as caught:
        api.responses.create(model=fakes.MODEL, input="and", previous_response_id=first.id)
    assert caught.value.code == "previous_response_not_found"


def test_earlier_messages_are_sent_back_or_referred_to(api: openai.OpenAI) -> None:
    first = api.responses.create(model=fakes.MODEL, input="hello")
    (item,) = first.output
    assert isinstance(item, ResponseOutputMessage)
    said = {"role": "user", "content": "hello"}
    for back in (item.model_dump(), {"type": "item_reference", "id": item.id}):
        dialogue = cast(Any, [said, {"type": "reasoning", "id": "rs_1", "summary": []}, back, said])
        assert api.responses.create(model=fakes.MODEL, input=dialogue).output_text == "hello "


def test_what_is_not_kept_is_not_found(api: openai.OpenAI) -> None:
    response = api.responses.create(model=fakes.MODEL, input="hello", store=False)
    with pytest.raises(openai.NotFoundError):
        api.responses.retrieve(response.id)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"input": [{"role": "user"}]}, "input[0].content"),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "input"),
        ({"input": about({"type": "input_image"})}, "input[0].content[0].image_url"),
        (
            {"input": about({"type": "input_file", "file_id": "vid_" + 32 * "0"})},
            "input[0].content[0].file_id",
        ),
        (
            {
                "instructions": "Be brief.",
                "input": about({"type": "input_image", "image_url": "vid_" + 32 * "0"}),
            },
            "input[0].content[0].image_url",
        ),
        ({"input": "hello", "temperature": 9.0}, "temperature"),
        ({"input": "hello", "conversation": "conv_1"}, "conversation"),
        ({"input": "hello", "model": "nobody"}, "model"),
    ],
)
def test_refusals_name_the_field_that_the_client_sent(
    server: RunningServer, body: dict[str, Any], param: str
) -> None:
    with server.client() as client:
        response = client.post("/v1/responses", json={"model": fakes.MODEL, **body})
    assert response.status_code in (400, 404)
    assert response.json()["error"]["param"] == param


def kept(now: list[float]) -> KeptResponses:
    return KeptResponses(lambda: now[0])


def body_of(number: int, size: int = 0) -> dict[str, Any]:
    item = {"id": f"msg_{number}", "content": [{"text": "x" * size}]}
    return {"id": f"resp_{number}", "output": [item]}


def test_responses_are_one_tenants_and_end(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    responses = kept(now)
    responses.keep("a", body_of(1), ())
    assert responses.dialogue("a", "resp_1") == ()
    assert responses.message("a", "msg_1")["role"] == "assistant"
    with pytest.raises(Exception, match="no response"):
        responses.get("b", "resp_1")
    with pytest.raises(Exception, match="no message"):
        responses.message("b", "msg_1")
    now[0] = KEPT_SECONDS
    with pytest.raises(Exception, match="no response"):
        responses.get("a", "resp_1")


def test_the_oldest_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_responses, "MAX_BYTES_OF_ONE", 3000)
    monkeypatch.setattr(kept_responses, "MAX_BYTES", 5000)
    responses = kept([0.0])
    for number in range(3):
        responses.keep("a", body_of(number, 1000), ())
    with pytest.raises(Exception, match="no response"):
        responses.get("a", "resp_0")
    responses.keep("b", body_of(7, 2000), ())
    responses.keep("c", body_of(8, 2000), ())
    assert responses.get("c", "resp_8")
    assert responses.get("a", "resp_2")
    with pytest.raises(Exception, match="no response"):
        responses.get("a", "resp_1")
    responses.keep("a", body_of(9, 4000), ())
    with pytest.raises(Exception, match="no response"):
        responses.get("a", "resp_9")
