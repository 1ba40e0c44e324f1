"""curl: what a person types."""

import json
import subprocess
from pathlib import Path
from typing import Any

import cell
from cell import ANSWER, PLACE, QUESTION, ability

KEY = ("-H", f"Authorization: Bearer {PLACE.key}")
JSON = ("-H", "content-type: application/json")


def curl(path: str, *options: str, key: tuple[str, ...] = KEY) -> str:
    command = ["curl", "-sS", "--max-time", "60", f"{PLACE.url}/v1{path}", *key, *options]
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd=PLACE.folder).stdout


def said(video: str = "") -> list[Any]:
    parts: list[Any] = [{"type": "text", "text": QUESTION}]
    if video:
        parts.append({"type": "video_url", "video_url": {"url": video}})
    return [{"role": "user", "content": parts}]


def ask(*, shown: str = "", **body: Any) -> Any:
    """The question, about a video that stands in its message."""
    answer = curl(
        "/chat/completions", *JSON, "-d", json.dumps({"model": PLACE.model, "messages": said(shown), **body})
    )
    return answer if body.get("stream") else json.loads(answer)


def text(answer: Any) -> str:
    assert "choices" in answer, answer
    return answer["choices"][0]["message"]["content"]


def chunks(said: str) -> list[Any]:
    lines = [line[6:] for line in said.splitlines() if line.startswith("data: ")]
    assert lines[-1] == "[DONE]", said
    return [json.loads(line) for line in lines[:-1]]


@ability("models")
def models() -> None:
    assert PLACE.model in [each["id"] for each in json.loads(curl("/models"))["data"]]
    assert json.loads(curl("/models/"))["data"]


@ability("chat")
def chat() -> None:
    assert text(ask())


@ability("stream")
def stream() -> None:
    found = chunks(ask(stream=True, shown=PLACE.video_id))
    pieces = [each["choices"][0]["delta"].get("content") or "" for each in found if each["choices"]]
    assert "".join(pieces) == ANSWER


@ability("stream_usage")
def stream_usage() -> None:
    found = chunks(ask(stream=True, shown=PLACE.video_id, stream_options={"include_usage": True}))
    assert found[-1]["usage"]["completion_tokens"] == 3


@ability("limits")
def limits() -> None:
    assert ask(shown=PLACE.video_id, max_tokens=2)["choices"][0]["finish_reason"] == "length"
    drawn = [text(ask(shown=PLACE.video_id, seed=7, temperature=1.5, min_p=0.05)) for _ in range(2)]
    assert drawn[0] == drawn[1]
    assert text(ask(shown=PLACE.video_id, stop="disappears")).strip() == "It"


@ability("turns")
def turns() -> None:
    begin = said(PLACE.video_id)
    echoed = [*begin, ask(messages=begin)["choices"][0]["message"], *said()]
    for messages in (echoed, [*echoed, *said()]):
        assert text(ask(messages=messages))


@ability("video_id")
def video_id() -> None:
    """Uploaded as a body, as a form and by `curl -T`'s PUT or POST."""
    for options in (
        ("--data-binary", f"@{PLACE.video}"),
        ("-F", f"file=@{PLACE.video}"),
        ("-T", PLACE.video, "-X", "POST"),
    ):
        stored = json.loads(curl("/video/uploads", *options))
        assert text(ask(shown=stored["id"])) == ANSWER


@ability("video_data")
def video_data() -> None:
    body = {"model": PLACE.model, "messages": said(PLACE.video_url)}
    Path(PLACE.folder, "body.json").write_text(json.dumps(body))
    assert text(json.loads(curl("/chat/completions", *JSON, "-d", "@body.json"))) == ANSWER


@ability("pictures")
def pictures() -> None:
    stored = json.loads(curl("/video/uploads", "-F", f"file=@{PLACE.picture}"))
    assert ask(shown=stored["id"])["receipt"]["frames"]["count"] == 1


@ability("video_field")
def video_field() -> None:
    assert text(ask(video=PLACE.video_id)) == ANSWER
    own = {"video": PLACE.video_id, "messages": [{"role": "user", "content": QUESTION}]}
    assert text(json.loads(curl("/video/chat", *JSON, "-d", json.dumps(own)))) == ANSWER


@ability("sampling")
def sampling() -> None:
    answer = ask(shown=PLACE.video_id, sampling={"num_frames": 6})
    assert answer["receipt"]["frames"]["count"] == 6


@ability("receipt")
def receipt() -> None:
    assert ask(shown=PLACE.video_id)["receipt"]["frames"]["timestamps"][0] == 0.5


@ability("stream_receipt")
def stream_receipt() -> None:
    assert len([each for each in chunks(ask(stream=True, shown=PLACE.video_id)) if "receipt" in each]) == 1


@ability("errors")
def errors() -> None:
    for body, code, param in (
        ({"shown": PLACE.stale_id}, "video_not_found", "messages[0].content[1].video_url.url"),
        ({"temperature": 9}, "invalid_value", "temperature"),
        ({"no_such_field": 1}, "unknown_parameter", "no_such_field"),
    ):
        error = ask(**body)["error"]
        assert (error["code"], error["param"]) == (code, param), error


@ability("n")
def n() -> None:
    assert len(ask(shown=PLACE.video_id, n=2)["choices"]) == 2


@ability("logprobs")
def logprobs() -> None:
    found = ask(shown=PLACE.video_id, logprobs=True, top_logprobs=2)["choices"][0]["logprobs"]["content"]
    assert len(found[0]["top_logprobs"]) == 2


@ability("tools_none")
def tools_none() -> None:
    tool = {"type": "function", "function": {"name": "look"}}
    assert text(ask(shown=PLACE.video_id, tools=[tool], tool_choice="none")) == ANSWER


@ability("json_object")
def json_object() -> None:
    answer = ask(shown=PLACE.video_id, response_format={"type": "json_object"}, max_tokens=200)
    cell.must_be_object(text(answer))


@ability("json_schema")
def json_schema() -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "seen", "schema": cell.SCHEMA, "strict": True}}
    assert "shape" in json.loads(text(ask(shown=PLACE.video_id, response_format=wanted, max_tokens=200)))


@ability("files")
def files() -> None:
    clip = PLACE.fresh()
    file = json.loads(curl("/files", "-F", "purpose=user_data", "-F", f"file=@{clip}"))
    assert file["object"] == "file", file
    assert file["id"] in [each["id"] for each in json.loads(curl("/files"))["data"]]
    curl(f"/files/{file['id']}/content", "-o", "copy.mp4")
    assert Path(PLACE.folder, "copy.mp4").read_bytes() == clip.read_bytes()
    curl(f"/files/{file['id']}/content", "-r", "10-19", "-o", "piece")
    assert Path(PLACE.folder, "piece").read_bytes() == clip.read_bytes()[10:20]
    assert json.loads(curl(f"/files/{file['id']}", "-X", "DELETE"))["deleted"]


@ability("uploads")
def uploads() -> None:
    size = Path(PLACE.video).stat().st_size
    begun = {"bytes": size, "filename": "clip.mp4", "mime_type": "video/mp4", "purpose": "user_data"}
    upload = json.loads(curl("/uploads", *JSON, "-d", json.dumps(begun)))
    assert upload.get("status") == "pending", upload
    part = json.loads(curl(f"/uploads/{upload['id']}/parts", "-F", f"data=@{PLACE.video}"))
    end = json.dumps({"part_ids": [part["id"]]})
    assert json.loads(curl(f"/uploads/{upload['id']}/complete", *JSON, "-d", end))["status"] == "completed"


@ability("responses")
def responses() -> None:
    body = {"model": PLACE.model, "input": "hello"}
    assert json.loads(curl("/responses", *JSON, "-d", json.dumps(body)))["object"] == "response"


@ability("batches")
def batches() -> None:
    body = {"model": PLACE.model, "messages": said()}
    line = {"custom_id": "q", "method": "POST", "url": "/v1/chat/completions", "body": body}
    Path(PLACE.folder, "questions.jsonl").write_text(f"{json.dumps(line)}\n")
    file = json.loads(curl("/files", "-F", "purpose=batch", "-F", "file=@questions.jsonl"))
    assert file["object"] == "file", file
    wanted = {"input_file_id": file["id"], "endpoint": "/v1/chat/completions", "completion_window": "24h"}
    batch = json.loads(curl("/batches", *JSON, "-d", json.dumps(wanted)))
    cell.until(lambda: json.loads(curl(f"/batches/{batch['id']}"))["status"] == "completed", "a batch", 30)


@ability("retries")
def retries() -> None:
    key = ("-H", f"Authorization: Bearer {PLACE.key_of_one}")
    body = json.dumps({"model": PLACE.model, "messages": said()})
    cell.retried(lambda: "choices" in curl("/chat/completions", "--retry", "6", *JSON, "-d", body, key=key))


@ability("cancel")
def cancel() -> None:
    body = {"model": PLACE.model, "stream": True, "max_tokens": 400, "ignore_eos": True}
    body["messages"] = said()
    command = ["curl", "-sN", f"{PLACE.url}/v1/chat/completions", *KEY, *JSON, "-d", json.dumps(body)]

    def leave() -> None:
        with subprocess.Popen(command, stdout=subprocess.PIPE) as running:
            assert running.stdout is not None
            running.stdout.readline()
            running.kill()

    cell.aborted(leave)


if __name__ == "__main__":
    cell.main()
