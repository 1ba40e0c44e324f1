"""What Open WebUI 0.12.4 posts, and this project's function for it.

The package is not installed: it is a page with a database, and large. Bodies and headers are as its code
makes them (`routers/openai.py`, `routers/tasks.py`, `utils/payload.py`, `utils/middleware.py`); the function
is loaded as it loads one (`utils/plugin.py`), between modules that stand for its own.
"""

import asyncio
import http.client
import json
import sys
import types
import urllib.parse
from pathlib import Path
from typing import Any

import cell
from cell import ANSWER, PLACE, QUESTION, Cannot, ability

FUNCTION = Path(__file__).parents[3] / "deploy" / "open-webui" / "video.py"
HEADERS = {
    "Content-Type": "application/json",
    "Authorization": f"Bearer {PLACE.key}",
    "X-OpenWebUI-User-Name": "A%20Person",
    "X-OpenWebUI-User-Role": "user",
    "X-OpenWebUI-Chat-Id": "2f8e7a52",
    "User-Agent": "Python/3.11 aiohttp/3.13",
}
# every slider of its chat controls that concerns an OpenAI connection
PARAMETERS: dict[str, Any] = {
    "temperature": 0.8,
    "top_p": 0.9,
    "top_k": 40,
    "min_p": 0.05,
    "max_tokens": 64,
    "frequency_penalty": 0.5,
    "presence_penalty": 0.5,
    "seed": 7,
    "stop": ["###"],
    "logit_bias": {"5": -100},
    "reasoning_effort": "medium",
}
TASKS = {
    "title": 'Generate a title. JSON format: { "title": "your title" }',
    "tags": 'Generate 1-3 tags. JSON format: { "tags": ["tag1"] }',
    "queries": 'Generate search queries. JSON format: { "queries": ["q"] }',
}


def opened(path: str, body: dict[str, Any] | None = None, headers: dict[str, str] = HEADERS) -> Any:
    """A connection and its answer."""
    address = urllib.parse.urlsplit(PLACE.url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=60)
    method = "GET" if body is None else "POST"
    connection.request(method, f"/v1{path}", None if body is None else json.dumps(body), headers)
    return connection, connection.getresponse()


def post(body: dict[str, Any], path: str = "/chat/completions") -> Any:
    """An answer's JSON, or a stream's objects."""
    connection, answer = opened(path, body)
    text = answer.read().decode()
    connection.close()
    assert answer.status == 200, text
    if not body.get("stream"):
        return json.loads(text)
    lines = [line[6:] for line in text.splitlines() if line.startswith("data: ")]
    return [json.loads(line) for line in lines if line != "[DONE]"]


def chat(*messages: Any, stream: bool = True, **more: Any) -> Any:
    said = [{"role": "user", "content": each} if isinstance(each, str) else each for each in messages]
    return post({"stream": stream, "model": PLACE.model, "messages": said, **more})


def text(answer: Any) -> str:
    if isinstance(answer, dict):
        return answer["choices"][0]["message"]["content"]
    pieces = [each["choices"][0]["delta"].get("content") or "" for each in answer if each.get("choices")]
    return "".join(pieces)


def assistant(content: Any, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content, **more}


def system(content: str) -> dict[str, Any]:
    return {"role": "system", "content": content}


def function() -> Any:
    """The filter as Open WebUI loads it."""
    stored = types.SimpleNamespace(path=PLACE.video, filename="clip.mp4")

    async def get_file_by_id(file_id: str) -> Any:
        return stored if file_id == "file-1" else None

    files, provider = (
        types.ModuleType("open_webui.models.files"),
        types.ModuleType("open_webui.storage.provider"),
    )
    files.Files = types.SimpleNamespace(get_file_by_id=get_file_by_id)  # pyright: ignore
    provider.Storage = types.SimpleNamespace(get_file=lambda path: path)  # pyright: ignore
    for name in ("open_webui", "open_webui.models", "open_webui.storage"):
        sys.modules[name] = types.ModuleType(name)
    sys.modules |= {files.__name__: files, provider.__name__: provider}
    module = types.ModuleType("function_video")
    exec(FUNCTION.read_text(encoding="utf-8"), module.__dict__)
    found = module.Filter()
    found.valves = module.Filter.Valves(base_url=f"{PLACE.url}/v1", api_key=PLACE.key)
    return found


FILE = {
    "type": "file",
    "id": "file-1",
    "url": "file-1",
    "name": "clip.mp4",
    "content_type": "video/mp4",
    "size": 25334,
    "file": {"id": "file-1", "filename": "clip.mp4", "meta": {"content_type": "video/mp4", "size": 25334}},
}
DOCUMENT = {"type": "file", "id": "file-2", "name": "a.txt", "content_type": "text/plain"}
said_by_function: list[Any] = []


async def emit(event: Any) -> None:
    said_by_function.append(event["data"]["description"])


async def asked_through(function: Any, **more: Any) -> Any:
    """What Open WebUI sends after the function, without what it takes out itself, and the chunks after it."""
    body = {
        "stream": True,
        "model": PLACE.model,
        "messages": [{"role": "user", "content": QUESTION}],
        "files": [FILE, DOCUMENT],
        "metadata": {"chat_id": "2f8e7a52", "files": [FILE, DOCUMENT]},
        **more,
    }
    body = await function.inlet(body, __event_emitter__=emit)
    assert body.pop("files") == body.pop("metadata")["files"] == [DOCUMENT]
    return [await function.stream(chunk, __event_emitter__=emit) for chunk in post(body)]


@ability("models")
def models() -> None:
    _connection, answer = opened("/models")
    assert PLACE.model in [model["id"] for model in json.loads(answer.read())["data"]]


@ability("chat")
def whole() -> None:
    """Also its tasks: titles, tags and searches."""
    assert text(chat("hello", stream=False))
    for words in TASKS.values():
        assert text(chat(f"### Task:\n{words}\n### Chat History:\nhello", stream=False, max_tokens=300))


@ability("stream")
def stream() -> None:
    assert text(chat("hello"))


@ability("stream_usage")
def stream_usage() -> None:
    chunks = chat("hello", stream_options={"include_usage": True})
    assert any((chunk.get("usage") or {}).get("total_tokens") for chunk in chunks)


@ability("limits")
def limits() -> None:
    assert text(chat("hello", **PARAMETERS)) == text(chat("hello", **PARAMETERS))


@ability("turns")
def turns() -> None:
    """It leaves out an answer that was broken off, sends what is to be continued last, and adds systems."""
    echoed = assistant("It moves.", id="a1", reasoning_content="so it seems", annotations=[])
    for messages in (
        ("hello", echoed, "and then?"),
        ("hello", "hello?", "and then?"),
        ("hello", assistant(""), "and then?"),
        (system("Be brief."), system("Be kind."), "hello"),
        ("hello", assistant("It moves."), system("Search results: none."), "and then?"),
    ):
        assert text(chat(*messages)), messages
    chat("hello", assistant("The circle"))


@ability("video_id")
def video_id() -> None:
    """The function uploads a chat's video once, and names it in every question."""
    function_ = function()
    assert text(asyncio.run(asked_through(function_))) == ANSWER
    assert text(asyncio.run(asked_through(function_))) == ANSWER
    assert sum(words == "uploading clip.mp4" for words in said_by_function) == 1


@ability("video_data")
def video_data() -> None:
    raise Cannot("Open WebUI sends no videos: the function uploads them")


@ability("pictures")
def pictures() -> None:
    picture = {"type": "image_url", "image_url": {"url": PLACE.picture_url}}
    chunks = chat({"role": "user", "content": [{"type": "text", "text": QUESTION}, picture]})
    assert any(chunk.get("receipt") for chunk in chunks)


@ability("video_field")
def video_field() -> None:
    """One of its custom parameters."""
    assert text(chat(QUESTION, video=PLACE.video_id)) == ANSWER


@ability("sampling")
def sampling() -> None:
    """One of its custom parameters, which are JSON."""
    answer = chat(QUESTION, stream=False, video=PLACE.video_id, sampling={"num_frames": 6})
    assert answer["receipt"]["frames"]["count"] == 6


@ability("receipt")
def receipt() -> None:
    raise Cannot("Open WebUI streams: the function reads the receipt there")


@ability("stream_receipt")
def stream_receipt() -> None:
    """A line of status above the answer."""
    asyncio.run(asked_through(function()))
    assert said_by_function[-1] == "8 frames, from 0.5 to 7.375 s", said_by_function


@ability("errors")
def errors() -> None:
    """It shows `error.message` of any answer that is none."""
    for more in ({"video": PLACE.stale_id}, {"temperature": 9}, {"no_such_field": 1}):
        body = {
            "model": PLACE.model,
            "stream": True,
            "messages": [{"role": "user", "content": "hello"}],
            **more,
        }
        _connection, answer = opened("/chat/completions", body)
        assert (answer.status, bool(json.loads(answer.read())["error"]["message"])) == (400, True), more


@ability("n")
def n() -> None:
    raise Cannot("Open WebUI shows one answer of one request")


@ability("logprobs")
def logprobs() -> None:
    raise Cannot("Open WebUI shows no log probabilities")


@ability("tools_none")
def tools_none() -> None:
    raise Cannot("Open WebUI sends tools to be used, or none")


@ability("json_object")
def json_object() -> None:
    """The slider `response_format` of a model."""
    answer = chat(QUESTION, video=PLACE.video_id, response_format={"type": "json_object"}, max_tokens=200)
    cell.must_be_object(text(answer))


@ability("json_schema")
def json_schema() -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "seen", "schema": cell.SCHEMA}}
    answer = chat(QUESTION, video=PLACE.video_id, response_format=wanted, max_tokens=200)
    assert "shape" in json.loads(text(answer))


@ability("files")
def files() -> None:
    raise Cannot("Open WebUI keeps files itself")


@ability("uploads")
def uploads() -> None:
    raise Cannot("Open WebUI keeps files itself")


@ability("responses")
def responses() -> None:
    """A connection may be told to use them."""
    said = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": QUESTION}]}
    body = {"stream": True, "model": PLACE.model, "input": [said], "instructions": "Be brief."}
    events = post(body, "/responses")
    assert "".join(event["delta"] for event in events if event["type"] == "response.output_text.delta")
    assert events[-1]["type"] == "response.completed"


@ability("batches")
def batches() -> None:
    raise Cannot("Open WebUI has no batches")


@ability("retries")
def retries() -> None:
    raise Cannot("Open WebUI asks once, and shows a refusal")


@ability("cancel")
def cancel() -> None:
    body = {"model": PLACE.model, "stream": True, "max_tokens": 400, "ignore_eos": True}
    body["messages"] = [{"role": "user", "content": "hello"}]

    def leave() -> None:
        connection, answer = opened("/chat/completions", body)
        answer.readline()
        answer.close()
        connection.close()

    cell.aborted(leave)


if __name__ == "__main__":
    cell.main()
