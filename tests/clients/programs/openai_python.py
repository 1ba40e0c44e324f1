"""openai-python, of either major version, asking the server itself or a gateway before it."""

import io
import json
import time
from typing import Any, Literal

import cell
import openai
from cell import ANSWER, PLACE, QUESTION, ability
from openai import OpenAI
from pydantic import BaseModel

client = OpenAI(base_url=f"{PLACE.url}/v1", api_key=PLACE.key, max_retries=0, timeout=60)
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}


class Seen(BaseModel):
    shape: Literal["circle", "square"]
    moves: bool


def video(url: str, **sampling: Any) -> dict[str, Any]:
    return {"type": "video_url", "video_url": {"url": url, **sampling}}


def said_by_user(*parts: dict[str, Any], text: str = QUESTION) -> dict[str, Any]:
    return {"role": "user", "content": [{"type": "text", "text": text}, *parts]}


def ask(*parts: dict[str, Any], **options: Any) -> Any:
    return client.chat.completions.create(model=PLACE.model, messages=[said_by_user(*parts)], **options)


def text(answer: Any) -> str:
    return answer.choices[0].message.content


@ability("models")
def models() -> None:
    assert PLACE.model in [model.id for model in client.models.list()]
    assert client.models.retrieve(PLACE.model).id == PLACE.model


@ability("chat")
def chat() -> None:
    answer = client.chat.completions.create(
        model=PLACE.model,
        messages=[{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hello"}],
    )
    assert text(answer)
    assert answer.choices[0].finish_reason == "stop"
    usage = answer.usage
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens > 0


@ability("stream")
def stream() -> None:
    chunks = list(ask(video(PLACE.video_id), stream=True))
    choices = [chunk.choices[0] for chunk in chunks if chunk.choices]
    assert "".join(choice.delta.content or "" for choice in choices) == ANSWER
    assert choices[0].delta.role == "assistant"
    assert [each.finish_reason for each in choices if each.finish_reason] == ["stop"]
    assert len({chunk.id for chunk in chunks}) == 1


@ability("stream_usage")
def stream_usage() -> None:
    *_, last = ask(video(PLACE.video_id), stream=True, stream_options={"include_usage": True})
    assert last.usage.completion_tokens == 3, last


@ability("limits")
def limits() -> None:
    for name in ("max_tokens", "max_completion_tokens"):
        cut = ask(video(PLACE.video_id), **{name: 2})
        assert (cut.choices[0].finish_reason, cut.usage.completion_tokens) == ("length", 2), cut
    drawn = [text(ask(video(PLACE.video_id), seed=7, temperature=1.5, top_p=0.9)) for _ in range(2)]
    assert drawn[0] == drawn[1]
    assert text(ask(video(PLACE.video_id), stop=["disappears"])).strip() == "It"
    ask(video(PLACE.video_id), frequency_penalty=0.5, presence_penalty=0.5)


@ability("turns")
def turns() -> None:
    begin = said_by_user(video(PLACE.video_id))
    first = client.chat.completions.create(model=PLACE.model, messages=[begin])
    # the message as the SDK holds it, and one whose answer was broken off
    echoed: list[Any] = [begin, first.choices[0].message, {"role": "user", "content": "hello?"}]
    for messages in (echoed, [*echoed, {"role": "user", "content": QUESTION}]):
        assert text(client.chat.completions.create(model=PLACE.model, messages=messages))


@ability("video_id")
def video_id() -> None:
    assert text(ask(video(PLACE.video_id))) == ANSWER
    assert text(ask({"type": "file", "file": {"file_id": PLACE.video_id}})) == ANSWER


@ability("video_data")
def video_data() -> None:
    assert text(ask(video(PLACE.video_url))) == ANSWER
    assert text(ask({"type": "file", "file": {"filename": "a.mp4", "file_data": PLACE.video_url}})) == ANSWER


@ability("pictures")
def pictures() -> None:
    answer = ask({"type": "image_url", "image_url": {"url": PLACE.picture_url, "detail": "low"}})
    assert text(answer)
    assert answer.receipt["frames"]["count"] == 1
    base64 = PLACE.picture_url.partition(",")[2]
    answer = ask(video(f"data:video/jpeg;base64,{base64},{base64}"))
    assert answer.receipt["frames"]["count"] == 2


@ability("video_field")
def video_field() -> None:
    answer = ask(extra_body={"video": PLACE.video_id})
    assert text(answer) == ANSWER
    assert answer.receipt["video"] == PLACE.video_id


@ability("sampling")
def sampling() -> None:
    assert ask(video(PLACE.video_id, num_frames=4, start=2.0)).receipt["frames"]["count"] == 4
    answer = ask(video(PLACE.video_id), extra_body={"sampling": {"num_frames": 6}})
    assert answer.receipt["frames"]["count"] == 6


@ability("receipt")
def receipt() -> None:
    assert ask(video(PLACE.video_id)).receipt["frames"]["timestamps"][0] == 0.5


@ability("stream_receipt")
def stream_receipt() -> None:
    chunks = ask(video(PLACE.video_id), stream=True, stream_options={"include_usage": True})
    found = [chunk.receipt for chunk in chunks if getattr(chunk, "receipt", None)]
    assert len(found) == 1, found
    assert found[0]["frames"]["timestamps"][0] == 0.5


@ability("errors")
def errors() -> None:
    for wrong, code, param in (
        (lambda: ask(video(PLACE.stale_id)), "video_not_found", "messages[0].content[1].video_url.url"),
        (lambda: ask(video(PLACE.broken_url)), "truncated_video", "messages[0].content[1].video_url.url"),
        (lambda: ask(temperature=9), "invalid_value", "temperature"),
        (lambda: ask(n=99), "invalid_value", "n"),
        (lambda: client.chat.completions.create(model=PLACE.model, messages=[]), "invalid_value", "messages"),
        (lambda: ask(extra_body={"no_such_field": 1}), "unknown_parameter", "no_such_field"),
    ):
        refused(wrong, code, param)
    try:
        client.chat.completions.create(model="no-such", messages=[{"role": "user", "content": "hello"}])
    except (openai.BadRequestError, openai.NotFoundError) as error:
        assert error.code == "model_not_found", error  # noqa: PT017
    else:
        raise AssertionError("a model that is not there answered")


def refused(wrong: Any, code: str, param: str) -> None:
    try:
        wrong()
    except openai.BadRequestError as error:
        assert (error.code, error.param) == (code, param), error  # noqa: PT017
        assert error.request_id  # noqa: PT017
    else:
        raise AssertionError(f"{param}: no error")


@ability("n")
def n() -> None:
    answer = ask(video(PLACE.video_id), n=2, temperature=1.0, seed=1)
    assert [choice.index for choice in answer.choices] == [0, 1]


@ability("logprobs")
def logprobs() -> None:
    found = ask(video(PLACE.video_id), logprobs=True, top_logprobs=2).choices[0].logprobs.content
    assert "".join(each.token for each in found).strip() == ANSWER
    assert len(found[0].top_logprobs) == 2


@ability("tools_none")
def tools_none() -> None:
    assert text(ask(video(PLACE.video_id), tools=[TOOL], tool_choice="none")) == ANSWER


@ability("json_object")
def json_object() -> None:
    answer = ask(video(PLACE.video_id), response_format={"type": "json_object"}, max_tokens=100)
    cell.must_be_object(text(answer))


@ability("json_schema")
def json_schema() -> None:
    answer = client.chat.completions.parse(
        model=PLACE.model,
        messages=[said_by_user(video(PLACE.video_id))],
        response_format=Seen,
        max_tokens=200,
    )
    assert isinstance(answer.choices[0].message.parsed, Seen)


@ability("files")
def files() -> None:
    clip = PLACE.fresh()
    with clip.open("rb") as content:
        file = client.files.create(file=content, purpose="user_data", **FILES)
    assert (file.object, file.bytes) == ("file", clip.stat().st_size)
    assert file.id in [each.id for each in client.files.list(**FILES)]
    assert client.files.retrieve(file.id, **FILES).filename == clip.name
    assert client.files.content(file.id, **FILES).content == clip.read_bytes()
    assert text(ask({"type": "file", "file": {"file_id": file.id}})) == ANSWER
    assert client.files.delete(file.id, **FILES).deleted
    try:
        client.files.retrieve(file.id, **FILES)
    except openai.APIStatusError:
        return
    raise AssertionError("a deleted file is still there")


FILES: dict[str, Any] = {}


@ability("uploads")
def uploads() -> None:
    clip = PLACE.fresh()
    upload = client.uploads.upload_file_chunked(
        file=clip, mime_type="video/mp4", purpose="user_data", part_size=10_000
    )
    assert upload.status == "completed"
    assert upload.file is not None
    assert client.files.content(upload.file.id).content == clip.read_bytes()


@ability("responses")
def responses() -> None:
    said: Any = [
        {
            "role": "user",
            "content": [
                {"type": "input_text", "text": QUESTION},
                {"type": "input_file", "file_id": PLACE.video_id},
            ],
        }
    ]
    assert client.responses.create(model=PLACE.model, input=said).output_text == ANSWER
    assert client.responses.create(model=PLACE.model, input="hello", instructions="Be brief.").output_text
    events = list(client.responses.create(model=PLACE.model, input=said, stream=True))
    pieces = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert "".join(pieces) == ANSWER
    assert events[-1].type == "response.completed"


@ability("batches")
def batches() -> None:
    """The lines name the server's model: a gateway hands them on as they are."""
    lines = [
        {
            "custom_id": f"q{number}",
            "method": "POST",
            "url": "/v1/chat/completions",
            "body": {"model": "embedded", "messages": [said_by_user(video(PLACE.video_id))]},
        }
        for number in range(3)
    ]
    content = io.BytesIO("".join(f"{json.dumps(line)}\n" for line in lines).encode())
    file = client.files.create(file=("questions.jsonl", content), purpose="batch")
    batch = client.batches.create(
        input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
    )
    begin = time.monotonic()
    while (batch := client.batches.retrieve(batch.id)).status != "completed":
        assert batch.status in ("validating", "in_progress", "finalizing"), batch
        assert time.monotonic() - begin < 30, batch
        time.sleep(0.2)
    assert batch.output_file_id
    answers = [json.loads(line) for line in client.files.content(batch.output_file_id).text.splitlines()]
    found = {each["custom_id"]: each["response"]["body"]["choices"][0] for each in answers}
    assert {each["message"]["content"] for each in found.values()} == {ANSWER}
    assert set(found) == {"q0", "q1", "q2"}


@ability("retries")
def retries() -> None:
    narrow = client.with_options(api_key=PLACE.key_of_one, max_retries=6)
    said: Any = [{"role": "user", "content": "hello"}]
    cell.retried(lambda: text(narrow.chat.completions.create(model=PLACE.model, messages=said)))


@ability("cancel")
def cancel() -> None:
    def leave() -> None:
        running = ask(video(PLACE.video_id), stream=True, max_tokens=400, extra_body={"ignore_eos": True})
        next(iter(running))
        running.close()

    cell.aborted(leave)


if __name__ == "__main__":
    cell.main()
