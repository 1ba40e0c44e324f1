"""LangChain's ChatOpenAI."""

import json
from typing import Any, Literal

import cell
import openai
from cell import ANSWER, PLACE, QUESTION, ability, lacks
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from langchain_openai import ChatOpenAI
from pydantic import BaseModel


class Seen(BaseModel):
    """What is seen in the video."""

    shape: Literal["circle", "square"]
    moves: bool


def chat_model(**options: Any) -> ChatOpenAI:
    given = {"api_key": PLACE.key, "max_retries": 0, **options}
    return ChatOpenAI(model=PLACE.model, base_url=f"{PLACE.url}/v1", **given)


def video(url: str, **sampling: Any) -> dict[str, Any]:
    return {"type": "video_url", "video_url": {"url": url, **sampling}}


def said(*parts: dict[str, Any]) -> HumanMessage:
    return HumanMessage([{"type": "text", "text": QUESTION}, *parts])


def ask(*parts: dict[str, Any], **options: Any) -> AIMessage:
    return chat_model(**options).invoke([said(*parts)])


@ability("models")
def models() -> None:
    lacks("LangChain lists no models", ChatOpenAI, "list_models")


@ability("chat")
def chat() -> None:
    answer = chat_model().invoke([SystemMessage("Be brief."), HumanMessage("hello")])
    assert answer.text
    assert answer.usage_metadata is not None
    assert answer.response_metadata["finish_reason"] == "stop"


@ability("stream")
def stream() -> None:
    chunks = list(chat_model().stream([said(video(PLACE.video_id))]))
    assert "".join(chunk.text for chunk in chunks) == ANSWER


@ability("stream_usage")
def stream_usage() -> None:
    chunks = list(chat_model(stream_usage=True).stream([said(video(PLACE.video_id))]))
    found = [chunk.usage_metadata for chunk in chunks if chunk.usage_metadata]
    assert found[0]["output_tokens"] == 3, found


@ability("limits")
def limits() -> None:
    cut = ask(video(PLACE.video_id), max_tokens=2)
    assert cut.response_metadata["finish_reason"] == "length"
    drawn = [ask(video(PLACE.video_id), seed=7, temperature=1.5, top_p=0.9).text for _ in range(2)]
    assert drawn[0] == drawn[1]
    assert ask(video(PLACE.video_id), stop=["disappears"]).text.strip() == "It"
    ask(video(PLACE.video_id), frequency_penalty=0.5, presence_penalty=0.5)


@ability("turns")
def turns() -> None:
    begin = said(video(PLACE.video_id))
    echoed = [begin, chat_model().invoke([begin]), HumanMessage("hello?")]
    for messages in (echoed, [*echoed, HumanMessage(QUESTION)]):
        assert chat_model().invoke(messages).text


@ability("video_id")
def video_id() -> None:
    assert ask(video(PLACE.video_id)).text == ANSWER
    assert ask({"type": "file", "file_id": PLACE.video_id}).text == ANSWER


@ability("video_data")
def video_data() -> None:
    base64 = PLACE.video_url.partition(",")[2]
    assert ask(video(PLACE.video_url)).text == ANSWER
    block = {"type": "file", "base64": base64, "mime_type": "video/mp4", "filename": "clip.mp4"}
    assert ask(block).text == ANSWER


@ability("pictures")
def pictures() -> None:
    base64 = PLACE.picture_url.partition(",")[2]
    assert ask({"type": "image", "base64": base64, "mime_type": "image/jpeg"}).text


@ability("video_field")
def video_field() -> None:
    assert ask(extra_body={"video": PLACE.video_id}).text == ANSWER


@ability("sampling")
def sampling() -> None:
    """Four frames cost as many tokens as eight, so that the server says what it took."""
    answers = [
        ask(video(PLACE.video_id, start=0.0, end=1.0)).text,
        ask(video(PLACE.video_id), extra_body={"sampling": {"start": 0.0, "end": 1.0}}).text,
    ]
    direct = cell.asked_server(sampling={"start": 0.0, "end": 1.0})
    assert all(f'"{answer}"' in direct for answer in answers), answers


@ability("receipt")
def receipt() -> None:
    answer = ask(video(PLACE.video_id))
    is_lost = "receipt" not in answer.model_dump_json()
    cell.loses(
        "LangChain keeps no field of an answer that it does not know", is_lost, cell.asked_server(), "receipt"
    )


@ability("stream_receipt")
def stream_receipt() -> None:
    chunks = list(chat_model().stream([said(video(PLACE.video_id))]))
    is_lost = not any("receipt" in chunk.model_dump_json() for chunk in chunks)
    why = "LangChain keeps no field of an answer that it does not know"
    cell.loses(why, is_lost, cell.asked_server(stream=True), "receipt")


@ability("errors")
def errors() -> None:
    for wrong, code in (
        (lambda: ask(video(PLACE.stale_id)), "video_not_found"),
        (lambda: ask(video(PLACE.broken_url)), "truncated_video"),
        (lambda: list(chat_model().stream([said(video(PLACE.broken_url))])), "truncated_video"),
        (lambda: ask(temperature=9), "invalid_value"),
    ):
        try:
            wrong()
        except openai.BadRequestError as error:
            assert error.code == code, error  # noqa: PT017
        else:
            raise AssertionError(f"{code}: no error")


@ability("n")
def n() -> None:
    result = chat_model(n=2, temperature=1.0).generate([[said(video(PLACE.video_id))]])
    assert len(result.generations[0]) == 2


@ability("logprobs")
def logprobs() -> None:
    answer = ask(video(PLACE.video_id), logprobs=True, top_logprobs=2)
    assert len(answer.response_metadata["logprobs"]["content"][0]["top_logprobs"]) == 2


def look() -> str:
    """Looks."""
    return ""


@ability("tools_none")
def tools_none() -> None:
    bound = chat_model().bind_tools([look], tool_choice="none")
    assert bound.invoke([said(video(PLACE.video_id))]).text == ANSWER


@ability("json_object")
def json_object() -> None:
    model = chat_model(max_tokens=100).with_structured_output(None, method="json_mode")
    try:
        cell.must_be_object(json.dumps(model.invoke([said(video(PLACE.video_id))])))
    except openai.LengthFinishReasonError as error:
        cell.must_be_object(error.completion.choices[0].message.content)


@ability("json_schema")
def json_schema() -> None:
    model = chat_model(max_tokens=200).with_structured_output(Seen, method="json_schema")
    assert isinstance(model.invoke([said(video(PLACE.video_id))]), Seen)


@ability("files")
def files() -> None:
    lacks("LangChain has no calls for files", ChatOpenAI, "files")


@ability("uploads")
def uploads() -> None:
    lacks("LangChain has no calls for files", ChatOpenAI, "uploads")


@ability("responses")
def responses() -> None:
    model = chat_model(use_responses_api=True)
    assert model.invoke([said({"type": "file", "file_id": PLACE.video_id})]).text == ANSWER
    chunks = list(model.stream([said({"type": "file", "file_id": PLACE.video_id})]))
    assert "".join(chunk.text for chunk in chunks) == ANSWER


@ability("batches")
def batches() -> None:
    """Its `batch` is many requests at once."""
    answers = chat_model().batch([[said(video(PLACE.video_id))]] * 3)
    assert {answer.text for answer in answers} == {ANSWER}
    lacks("LangChain has no calls for batches: its `batch` is many requests at once", ChatOpenAI, "batches")


@ability("retries")
def retries() -> None:
    patient = chat_model(api_key=PLACE.key_of_one, max_retries=6)
    cell.retried(lambda: patient.invoke("hello").text)


@ability("cancel")
def cancel() -> None:
    model = chat_model(max_tokens=400, extra_body={"ignore_eos": True})

    def leave() -> None:
        running = model.stream([said(video(PLACE.video_id))])
        next(running)
        running.close()  # pyright: ignore

    cell.aborted(leave)


if __name__ == "__main__":
    cell.main()
