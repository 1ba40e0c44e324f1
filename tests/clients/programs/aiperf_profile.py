"""AIPerf: a few requests of each kind that it measures, none of which may fail."""

import functools
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cell
from cell import PLACE, QUESTION, Cannot, ability

FOLDER = Path(PLACE.folder, "aiperf")
NUM_REQUESTS = 4
NO_FIELDS = "AIPerf measures times and tokens: nothing else of an answer is read"
NO_CALLS = "AIPerf asks for answers alone"


@dataclass(frozen=True)
class Run:
    """What it exports of each request, and what it says."""

    records: list[dict[str, Any]]
    said: str

    @property
    def errors(self) -> list[Any]:
        return [record["error"] for record in self.records if record.get("error")]


@functools.cache
def profile(*options: str) -> Run:
    folder = FOLDER / str(abs(hash(options)))
    tokenizer = FOLDER / "tokenizer"
    if not tokenizer.exists():
        tokenizer.mkdir(parents=True)
        source = Path(PLACE.video).parent / "llava_video" / "tokenizer.json"
        (tokenizer / "tokenizer.json").write_bytes(source.read_bytes())
        (tokenizer / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
    command = [
        *(sys.executable, "-m", "aiperf", "profile", "--model", PLACE.model, "--url", PLACE.url),
        *(
            "--api-key",
            PLACE.key,
            "--tokenizer",
            str(tokenizer),
            "--artifact-dir",
            str(folder),
            "--ui",
            "none",
        ),
        *(
            "--request-count",
            str(NUM_REQUESTS),
            "--concurrency",
            "2",
            "--workers-max",
            "1",
            "--no-gpu-telemetry",
        ),
        *options,
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False, cwd=FOLDER)
    lines = folder / "profile_export.jsonl"
    records = [json.loads(line) for line in lines.read_text().splitlines()] if lines.exists() else []
    return Run(records, done.stdout)


def succeeds(*options: str) -> Run:
    run = profile(*options)
    assert not run.errors, run.errors[:2]
    assert len(run.records) == NUM_REQUESTS, run.said[-1500:]
    return run


STREAM = (
    *("--endpoint-type", "chat", "--streaming", "--isl", "20", "--osl", "16", "--use-server-token-count"),
    *("--extra-inputs", "ignore_eos:true", "--extra-inputs", "temperature:0"),
)


@ability("chat")
def chat() -> None:
    succeeds("--endpoint-type", "chat", "--isl", "20", "--osl", "16")


@ability("stream")
def stream() -> None:
    assert "time_to_first_token" in json.dumps(succeeds(*STREAM).records[0])


@ability("stream_usage")
def stream_usage() -> None:
    record = succeeds(*STREAM).records[0]
    assert record["metrics"]["output_sequence_length"]["value"] == 16, record


@ability("limits")
def limits() -> None:
    succeeds(*STREAM)


@ability("video_data")
def video_data() -> None:
    """Videos and pictures in turn."""
    media = FOLDER / "media.jsonl"
    FOLDER.mkdir(exist_ok=True)
    lines = [
        {"text": QUESTION, **said} for said in ({"video": PLACE.video_url}, {"image": PLACE.picture_url})
    ]
    media.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    succeeds("--endpoint-type", "chat", "--input-file", str(media), "--custom-dataset-type", "single_turn")


@ability("pictures")
def pictures() -> None:
    video_data()


@ability("video_field")
def video_field() -> None:
    fields = json.dumps({"video": PLACE.video_id, "sampling": {"num_frames": 4}})
    succeeds("--endpoint-type", "chat", "--isl", "20", "--osl", "16", "--extra-inputs", fields)


@ability("video_id")
def video_id() -> None:
    video_field()


@ability("sampling")
def sampling() -> None:
    video_field()


@ability("responses")
def responses() -> None:
    succeeds("--endpoint-type", "responses", "--isl", "20", "--osl", "16", "--streaming")


@ability("cancel")
def cancel() -> None:
    before = cell.metric("btchat_requests_aborted_total")
    options = ("--request-cancellation-rate", "100", "--request-cancellation-delay", "0.05")
    profile(*(word.replace("16", "400") for word in STREAM), *options)
    assert cell.metric("btchat_requests_aborted_total") > before


@ability("errors")
def errors() -> None:
    """It tells the server's words."""
    run = profile("--endpoint-type", "chat", "--isl", "20", "--osl", "16", "--extra-inputs", "temperature:9")
    assert "temperature is" in json.dumps(run.errors), run


def cannot(why: str) -> None:
    raise Cannot(why)


for name in (
    "receipt",
    "stream_receipt",
    "n",
    "logprobs",
    "tools_none",
    "json_object",
    "json_schema",
    "turns",
):
    ability(name)(lambda: cannot(NO_FIELDS))
for name in ("models", "files", "uploads", "batches", "retries"):
    ability(name)(lambda: cannot(NO_CALLS))


if __name__ == "__main__":
    cell.main()
