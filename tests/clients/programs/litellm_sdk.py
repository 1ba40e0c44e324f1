"""LiteLLM as a library, with `drop_params` off and on; the model is called PROVIDER/NAME."""

import asyncio
import io
import json
import time
from collections.abc import Callable
from typing import Any, Literal

import cell
import litellm
from cell import ANSWER, PLACE, QUESTION, lacks, loses
from pydantic import BaseModel

PROVIDER = PLACE.model.partition("/")[0]
IS_VLLM = PROVIDER == "hosted_vllm"
litellm.suppress_debug_info = True
HOST: dict[str, Any] = {"api_base": f"{PLACE.url}/v1", "api_key": PLACE.key}
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}


class Seen(BaseModel):
    shape: Literal["circle", "square"]
    moves: bool


def ability(name: str) -> Callable[[Callable[[], None]], Callable[[], None]]:
    def mark(function: Callable[[], None]) -> Callable[[], None]:
        def both() -> None:
            for drops in (False, True):
                litellm.drop_params = drops
                function()

        cell.ability(name)(both)
        return function

    return mark


def video(url: str, **sampling: Any) -> dict[str, Any]:
    return {"type": "video_url", "video_url": {"url": url, **sampling}}


def said_by_user(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"role": "user", "content": [{"type": "text", "text": QUESTION}, *parts]}


def complete(messages: list[Any], **options: Any) -> Any:
    given = {"num_retries": 0, "max_retries": 0, **HOST, **options}
    return litellm.completion(model=PLACE.model, messages=messages, **given)


def ask(*parts: dict[str, Any], **options: Any) -> Any:
    return complete([said_by_user(*parts)], **options)


def text(answer: Any) -> str:
    return answer.choices[0].message.content


@ability("models")
def models() -> None:
    before = cell.num_requests()
    found = litellm.get_valid_models(check_provider_endpoint=True, custom_llm_provider=PROVIDER, **HOST)
    if not IS_VLLM:
        assert any(each.endswith("embedded") for each in found), found
        return
    assert (found, cell.num_requests()) == ([], before), found
    raise cell.Cannot("LiteLLM asks no server of `hosted_vllm/` for its models")


@ability("chat")
def chat() -> None:
    answer = complete([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hello"}])
    assert text(answer)
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.total_tokens > 0


@ability("stream")
def stream() -> None:
    chunks = list(ask(video(PLACE.video_id), stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == ANSWER
    assert chunks[-1].choices[0].finish_reason == "stop"


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
    first = complete([begin])
    echoed = [begin, first.choices[0].message.model_dump(), {"role": "user", "content": "hello?"}]
    for messages in (echoed, [*echoed, {"role": "user", "content": QUESTION}]):
        assert text(complete(messages))


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
    answer = ask({"type": "image_url", "image_url": {"url": PLACE.picture_url}})
    assert answer.receipt["frames"]["count"] == 1


@ability("video_field")
def video_field() -> None:
    answer = ask(extra_body={"video": PLACE.video_id})
    assert (text(answer), answer.receipt["video"]) == (ANSWER, PLACE.video_id)


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
    chunks = list(ask(video(PLACE.video_id), stream=True, stream_options={"include_usage": True}))
    found = [chunk for chunk in chunks if getattr(chunk, "receipt", None)]
    if not IS_VLLM:
        assert found, chunks
        return
    why = "LiteLLM's `hosted_vllm/` drops what it does not know from chunks"
    loses(why, not found, cell.asked_server(stream=True), '"receipt"')


@ability("errors")
def errors() -> None:
    for wrong, words in (
        (lambda: ask(video(PLACE.stale_id)), "no video"),
        (lambda: ask(video(PLACE.broken_url)), "cut off"),
        (lambda: ask(video(PLACE.broken_url), stream=True), "cut off"),
        (lambda: asyncio.run(ask_later(video(PLACE.broken_url))), "cut off"),
        (lambda: ask(temperature=9), "temperature"),
        (lambda: ask(n=99), "n is 99"),
    ):
        try:
            answer = wrong()
        except litellm.BadRequestError as error:
            assert words in str(error), error  # noqa: PT017
        else:
            raise AssertionError(f"{words}: no error, but {answer}")


async def ask_later(*parts: dict[str, Any]) -> Any:
    return await litellm.acompletion(model=PLACE.model, messages=[said_by_user(*parts)], **HOST)


@ability("n")
def n() -> None:
    assert len(ask(video(PLACE.video_id), n=2, temperature=1.0).choices) == 2


@ability("logprobs")
def logprobs() -> None:
    found = ask(video(PLACE.video_id), logprobs=True, top_logprobs=2).choices[0].logprobs
    assert len(found["content"][0]["top_logprobs"]) == 2


@ability("tools_none")
def tools_none() -> None:
    assert text(ask(video(PLACE.video_id), tools=[TOOL], tool_choice="none")) == ANSWER


@ability("json_object")
def json_object() -> None:
    answer = ask(video(PLACE.video_id), response_format={"type": "json_object"}, max_tokens=100)
    cell.must_be_object(text(answer))


@ability("json_schema")
def json_schema() -> None:
    Seen.model_validate_json(text(ask(video(PLACE.video_id), response_format=Seen, max_tokens=200)))


@ability("files")
def files() -> None:
    host: dict[str, Any] = {**HOST, "custom_llm_provider": PROVIDER}
    clip = PLACE.fresh()
    with clip.open("rb") as content:
        file = litellm.create_file(file=content, purpose="user_data", **host)
    assert file.id in [each.id for each in litellm.file_list(**host)]
    assert litellm.file_retrieve(file.id, **host).bytes == clip.stat().st_size
    assert litellm.file_content(file.id, **host).content == clip.read_bytes()
    assert litellm.file_delete(file.id, **host).deleted


@ability("uploads")
def uploads() -> None:
    lacks("LiteLLM has no uploads in parts", litellm, "create_upload")


@ability("responses")
def responses() -> None:
    said = [
        {
            "role": "user",
            "content": [
                {"type": "input_text", "text": QUESTION},
                {"type": "input_file", "file_id": PLACE.video_id},
            ],
        }
    ]
    assert litellm.responses(model=PLACE.model, input=said, **HOST).output_text == ANSWER
    events = list(litellm.responses(model=PLACE.model, input=said, stream=True, **HOST))
    assert "".join(each.delta for each in events if each.type == "response.output_text.delta") == ANSWER


@ability("batches")
def batches() -> None:
    host: dict[str, Any] = {**HOST, "custom_llm_provider": PROVIDER}
    body = {"model": "embedded", "messages": [said_by_user(video(PLACE.video_id))]}
    line = {"custom_id": "q", "method": "POST", "url": "/v1/chat/completions", "body": body}
    content = io.BytesIO(f"{json.dumps(line)}\n".encode())
    file = litellm.create_file(file=("questions.jsonl", content), purpose="batch", **host)
    batch = litellm.create_batch(
        completion_window="24h", endpoint="/v1/chat/completions", input_file_id=file.id, **host
    )
    begin = time.monotonic()
    while (batch := litellm.retrieve_batch(batch.id, **host)).status != "completed":
        assert time.monotonic() - begin < 30, batch
        time.sleep(0.2)
    answer = json.loads(litellm.file_content(batch.output_file_id, **host).text)
    assert answer["response"]["body"]["choices"][0]["message"]["content"] == ANSWER


@ability("retries")
def retries() -> None:
    """Its own default asks again at once."""
    patient = {"num_retries": 8, "retry_strategy": "exponential_backoff_retry", "api_key": PLACE.key_of_one}
    cell.retried(lambda: text(complete([{"role": "user", "content": "hello"}], **patient)))


@ability("cancel")
def cancel() -> None:
    async def read(begun: Callable[[], None]) -> None:
        running = await litellm.acompletion(
            model=PLACE.model,
            messages=[said_by_user(video(PLACE.video_id))],
            stream=True,
            max_tokens=400,
            extra_body={"ignore_eos": True},
            **HOST,
        )
        async for _chunk in running:
            begun()

    cell.cancelled(read)


if __name__ == "__main__":
    cell.main()
