"""The command `llm`, with the server among its extra models."""

import functools
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import cell
from cell import ANSWER, PLACE, QUESTION, ability, refuses

FOLDER = Path(PLACE.folder, "llm")
FOLDER.mkdir(exist_ok=True)
ENTRY = {
    "model_name": PLACE.model,
    "api_base": f"{PLACE.url}/v1",
    "api_key_name": "btchat",
    "vision": True,
    "supports_schema": True,
    "supports_tools": True,
}
MODELS = [
    {"model_id": "video", **ENTRY},
    {"model_id": "video-responses", "responses": True, **ENTRY},
    {"model_id": "video-of-one", **ENTRY, "api_key_name": "one"},
]
(FOLDER / "extra-openai-models.yaml").write_text(json.dumps(MODELS))  # JSON is YAML
(FOLDER / "keys.json").write_text(json.dumps({"btchat": PLACE.key, "one": PLACE.key_of_one}))
ENVIRONMENT = {**os.environ, "LLM_USER_PATH": str(FOLDER)}
CLIP = ("--at", PLACE.video, "image/gif")  # it sends as a picture what it is told to be one


class Failed(Exception):  # noqa: N818
    """What the command said as it ended."""


def run(*words: str, model: str = "video", is_plain: bool = False) -> str:
    command = [sys.executable, "-m", "llm", *words]
    if not is_plain:
        command += ["-m", model]
    done = subprocess.run(
        command,
        env=ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if done.returncode:
        raise Failed(done.stderr.strip())
    return done.stdout.strip()


@ability("models")
def models() -> None:
    """It lists those of its file alone."""
    before = cell.num_requests()
    assert "video" in run("models", "list", is_plain=True)
    assert cell.num_requests() == before
    raise cell.Cannot("`llm` lists the models of its own file and asks no server for them")


@ability("chat")
def chat() -> None:
    assert run("hello", "--no-stream", "-s", "Be brief.")


@ability("stream")
def stream() -> None:
    assert run(QUESTION, *CLIP) == ANSWER


@ability("stream_usage")
def stream_usage() -> None:
    run(QUESTION, *CLIP)
    assert logged()["output_tokens"] == 3, logged()


def logged() -> dict[str, object]:
    return json.loads(run("logs", "-n", "1", "--json", is_plain=True))[0]


@ability("limits")
def limits() -> None:
    drawn = [run(QUESTION, *CLIP, "-o", "seed", "7", "-o", "temperature", "1.5") for _ in range(2)]
    assert drawn[0] == drawn[1]
    assert run(QUESTION, *CLIP, "-o", "stop", "disappears", "-o", "max_tokens", "9") == "It"
    run(QUESTION, *CLIP, "-o", "frequency_penalty", "0.5", "-o", "presence_penalty", "0.5")


@ability("turns")
def turns() -> None:
    run(QUESTION, *CLIP)
    assert run("hello?", "-c", is_plain=True)
    assert run(QUESTION, "-c", is_plain=True)


@ability("video_id")
def video_id() -> None:
    refuses(
        "`llm` sends files and URLs, and no ids",
        lambda: run(QUESTION, "--at", PLACE.video_id, "image/gif"),
        Failed,
    )


@ability("video_data")
def video_data() -> None:
    assert run(QUESTION, *CLIP, "--no-stream") == ANSWER


@ability("pictures")
def pictures() -> None:
    assert run(QUESTION, "-a", PLACE.picture)


@ability("video_field")
def video_field() -> None:
    no_option("video")


@ability("sampling")
def sampling() -> None:
    no_option("sampling")


@ability("receipt")
def receipt() -> None:
    """Its log has the whole answer."""
    run(QUESTION, *CLIP, "--no-stream")
    assert "timestamps" in json.dumps(logged())


@ability("stream_receipt")
def stream_receipt() -> None:
    run(QUESTION, *CLIP)
    is_lost = "timestamps" not in json.dumps(logged())
    why = "`llm` keeps no field of a chunk that it does not know"
    cell.loses(why, is_lost, cell.asked_server(stream=True), "timestamps")


@ability("errors")
def errors() -> None:
    for words, text in (
        (("--at", PLACE.broken, "image/gif"), "400"),
        (("-o", "max_tokens", "0"), "max_tokens"),
    ):
        try:
            run(QUESTION, *words)
        except Failed as error:
            assert text in str(error), error  # noqa: PT017
            assert "Traceback" not in str(error), error  # noqa: PT017
        else:
            raise AssertionError(f"{words}: no error")


@ability("n")
def n() -> None:
    no_option("n")


@ability("logprobs")
def logprobs() -> None:
    why = "`llm` has log probabilities for /v1/completions alone"
    refuses(why, lambda: run(QUESTION, "-o", "logprobs", "2"), Failed)


@ability("tools_none")
def tools_none() -> None:
    no_option("tool_choice")


@ability("json_object")
def json_object() -> None:
    cell.must_be_object(run(QUESTION, *CLIP, "-o", "json_object", "true", "-o", "max_tokens", "100"))


@ability("json_schema")
def json_schema() -> None:
    found = json.loads(run(QUESTION, *CLIP, "--schema", json.dumps(cell.SCHEMA)))
    assert set(found) == {"shape", "moves"}


@ability("files")
def files() -> None:
    no_command("files")


@ability("uploads")
def uploads() -> None:
    no_command("uploads")


@ability("batches")
def batches() -> None:
    no_command("batches")


@functools.cache
def told(*words: str) -> str:
    return run(*words, is_plain=True)


def no_option(name: str) -> None:
    options = told("models", "list", "--options", "-m", "video")
    assert f"\n    {name}:" not in options, options
    raise cell.Cannot("`llm` has no option for further fields")


def no_command(name: str) -> None:
    """A word that is no command of it would be a prompt."""
    assert name not in told("--help").partition("Commands:")[2]
    raise cell.Cannot("`llm` has no commands for files and batches")


@ability("responses")
def responses() -> None:
    assert run("hello", model="video-responses")
    assert run("hello", "--no-stream", model="video-responses")


@ability("retries")
def retries() -> None:
    cell.retried(lambda: run("hello", model="video-of-one"))


@ability("cancel")
def cancel() -> None:
    cell.aborted(end_early)


def end_early() -> None:
    """It has no option that makes an answer long: its process is ended while the video is read."""
    command = [sys.executable, "-m", "llm", QUESTION, "--at", str(PLACE.fresh()), "image/gif", "-m", "video"]
    running = subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.DEVNULL)
    while cell.metric("btchat_num_requests_in_flight") == 0 and running.poll() is None:
        time.sleep(0.005)
    time.sleep(0.03)
    running.kill()
    running.wait()


if __name__ == "__main__":
    cell.main()
