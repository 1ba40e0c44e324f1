"""LlamaIndex's OpenAILike."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import cell
import openai
from cell import ANSWER, PLACE, QUESTION, ability, lacks
from llama_index.core.llms import (
    ChatMessage,
    DocumentBlock,
    ImageBlock,
    MessageRole,
    TextBlock,
)
from llama_index.llms.openai_like import OpenAILike
from pydantic import BaseModel


class Seen(BaseModel):
    """What is seen in the video."""

    shape: Literal["circle", "square"]
    moves: bool


def chat_model(**options: Any) -> OpenAILike:
    extra = options.pop("extra", {})
    given = {"api_key": PLACE.key, "max_retries": 0, "is_chat_model": True, "context_window": 512, **options}
    return OpenAILike(
        model=PLACE.model,
        api_base=f"{PLACE.url}/v1",
        additional_kwargs=extra,
        max_tokens=given.pop("max_tokens", 50),
        **given,
    )


VIDEO = DocumentBlock(data=Path(PLACE.video).read_bytes(), document_mimetype="video/mp4", title="clip.mp4")
BY_FIELD = {"extra_body": {"video": PLACE.video_id}}


def said(*blocks: Any) -> ChatMessage:
    return ChatMessage(role=MessageRole.USER, blocks=[TextBlock(text=QUESTION), *blocks])


def ask(*blocks: Any, **options: Any) -> Any:
    return chat_model(**options).chat([said(*blocks)])


def text(answer: Any) -> str:
    return answer.message.content


@ability("models")
def models() -> None:
    lacks("LlamaIndex lists no models", OpenAILike, "list_models")


@ability("chat")
def chat() -> None:
    answer = chat_model().chat(
        [ChatMessage(role="system", content="Be brief."), ChatMessage(content="hello")]
    )
    assert text(answer)
    assert answer.raw.usage.total_tokens > 0


@ability("stream")
def stream() -> None:
    chunks = list(chat_model().stream_chat([said(VIDEO)]))
    assert "".join(chunk.delta for chunk in chunks) == ANSWER


@ability("stream_usage")
def stream_usage() -> None:
    model = chat_model(extra={"stream_options": {"include_usage": True}})
    *_, last = model.stream_chat([said(VIDEO)])
    assert last.raw.usage.completion_tokens == 3, last


@ability("limits")
def limits() -> None:
    cut = ask(VIDEO, max_tokens=2)
    assert cut.raw.choices[0].finish_reason == "length"
    drawn = [text(ask(VIDEO, temperature=1.5, extra={"seed": 7, "top_p": 0.9})) for _ in range(2)]
    assert drawn[0] == drawn[1]
    assert text(ask(VIDEO, extra={"stop": ["disappears"]})).strip() == "It"
    ask(VIDEO, extra={"frequency_penalty": 0.5, "presence_penalty": 0.5})


@ability("turns")
def turns() -> None:
    begin = said(VIDEO)
    echoed = [begin, chat_model().chat([begin]).message, ChatMessage(content="hello?")]
    for messages in (echoed, [*echoed, ChatMessage(content=QUESTION)]):
        assert text(chat_model().chat(messages))


@ability("video_id")
def video_id() -> None:
    """It has no block with an id: the field says it."""
    assert text(ask(extra=BY_FIELD)) == ANSWER


@ability("video_data")
def video_data() -> None:
    assert text(ask(VIDEO)) == ANSWER


@ability("pictures")
def pictures() -> None:
    answer = ask(ImageBlock(path=PLACE.picture, image_mimetype="image/jpeg"))
    assert answer.raw.receipt["frames"]["count"] == 1


@ability("video_field")
def video_field() -> None:
    answer = ask(extra=BY_FIELD)
    assert (text(answer), answer.raw.receipt["video"]) == (ANSWER, PLACE.video_id)


@ability("sampling")
def sampling() -> None:
    answer = ask(VIDEO, extra={"extra_body": {"sampling": {"num_frames": 6}}})
    assert answer.raw.receipt["frames"]["count"] == 6


@ability("receipt")
def receipt() -> None:
    assert ask(VIDEO).raw.receipt["frames"]["timestamps"][0] == 0.5


@ability("stream_receipt")
def stream_receipt() -> None:
    chunks = list(chat_model().stream_chat([said(VIDEO)]))
    assert any(getattr(chunk.raw, "receipt", None) for chunk in chunks)


@ability("errors")
def errors() -> None:
    broken = DocumentBlock(
        data=Path(PLACE.broken).read_bytes(), document_mimetype="video/mp4", title="clip.mp4"
    )
    for wrong, code in (
        (lambda: ask(extra={"extra_body": {"video": PLACE.stale_id}}), "video_not_found"),
        (lambda: ask(broken), "truncated_video"),
        (lambda: ask(extra={"top_p": 9}), "invalid_value"),
    ):
        try:
            wrong()
        except openai.BadRequestError as error:
            assert error.code == code, error  # noqa: PT017
        else:
            raise AssertionError(f"{code}: no error")


@ability("n")
def n() -> None:
    assert len(ask(VIDEO, temperature=1.0, extra={"n": 2}).raw.choices) == 2


@ability("logprobs")
def logprobs() -> None:
    answer = ask(VIDEO, logprobs=True, top_logprobs=2)
    assert len(answer.logprobs[0]) == 2


@ability("tools_none")
def tools_none() -> None:
    tool = {
        "type": "function",
        "function": {"name": "look", "parameters": {"type": "object", "properties": {}}},
    }
    assert text(ask(VIDEO, extra={"tools": [tool], "tool_choice": "none"})) == ANSWER


@ability("json_object")
def json_object() -> None:
    answer = ask(VIDEO, max_tokens=100, extra={"response_format": {"type": "json_object"}})
    cell.must_be_object(text(answer))


@ability("json_schema")
def json_schema() -> None:
    model = chat_model(max_tokens=200, should_use_structured_outputs=True).as_structured_llm(Seen)
    assert isinstance(model.chat([said(VIDEO)]).raw, Seen)


@ability("files")
def files() -> None:
    lacks("LlamaIndex has no calls for files", OpenAILike, "files")


@ability("uploads")
def uploads() -> None:
    lacks("LlamaIndex has no calls for files", OpenAILike, "uploads")


@ability("responses")
def responses() -> None:
    lacks("LlamaIndex's OpenAILike asks no `/v1/responses`", OpenAILike, "responses")


@ability("batches")
def batches() -> None:
    lacks("LlamaIndex has no calls for batches", OpenAILike, "batches")


@ability("retries")
def retries() -> None:
    patient = chat_model(api_key=PLACE.key_of_one, max_retries=6)
    cell.retried(lambda: text(patient.chat([ChatMessage(content="hello")])))


@ability("cancel")
def cancel() -> None:
    async def read(begun: Callable[[], None]) -> None:
        model = chat_model(max_tokens=400, extra={"extra_body": {"ignore_eos": True}})
        async for _chunk in await model.astream_chat([said(VIDEO)]):
            begun()

    cell.cancelled(read)


if __name__ == "__main__":
    cell.main()
