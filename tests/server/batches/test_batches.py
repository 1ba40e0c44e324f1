"""Batches through a real server: answers, errors, and that a restart loses and repeats nothing."""

import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

import openai
import pytest
from openai.types import Batch

from btchat.commands.running_server import running_server
from server.settings import Settings
from tests import fakes
from tests.server.conftest import QUICK, RunningServer, running

CHAT = "/v1/chat/completions"


def line(name: str, text: str, **fields: Any) -> str:
    body = {"model": fakes.MODEL, "messages": [{"role": "user", "content": text}], **fields}
    return json.dumps({"custom_id": name, "method": "POST", "url": CHAT, "body": body})


def sent(api: openai.OpenAI, *lines: str) -> str:
    """The id of a document with these lines."""
    return api.files.create(file=("asked.jsonl", "\n".join(lines).encode()), purpose="batch").id


def lines_of(api: openai.OpenAI, document_id: str | None) -> list[dict[str, Any]]:
    text = api.files.content(document_id or "").text
    return [json.loads(line) for line in text.splitlines()]


def begun(api: openai.OpenAI, document: str, endpoint: Any = CHAT) -> Batch:
    return api.batches.create(input_file_id=document, endpoint=endpoint, completion_window="24h")


def ended(api: openai.OpenAI, batch: Batch) -> Batch:
    end = time.monotonic() + 30
    while time.monotonic() < end:
        batch = api.batches.retrieve(batch.id)
        if batch.status in ("failed", "completed", "expired", "cancelled"):
            return batch
        time.sleep(0.05)
    raise AssertionError(f"{batch} does not end")


def api_of(url: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)


@pytest.fixture(scope="module")
def api(server: RunningServer) -> openai.OpenAI:
    return api_of(server.url)


def test_every_request_is_answered_or_refused(api: openai.OpenAI, video: str) -> None:
    asked = [line(f"n{number}", f"word {number}") for number in range(20)]
    about = [{"type": "video_url", "video_url": {"url": video}}, {"type": "text", "text": "what is it"}]
    asked.append(line("video", "", messages=[{"role": "user", "content": about}]))
    asked.append(line("hot", "hello", temperature=9))
    batch = ended(api, begun(api, sent(api, *asked)))
    assert batch.status == "completed"
    assert batch.request_counts is not None
    counts = batch.request_counts
    assert (counts.total, counts.completed, counts.failed) == (22, 21, 1)
    answers = {each["custom_id"]: each["response"] for each in lines_of(api, batch.output_file_id)}
    assert answers["n7"]["body"]["choices"][0]["message"]["content"] == "word 7 "
    assert answers["video"]["body"]["receipt"]["video"] == video
    assert {each["status_code"] for each in answers.values()} == {200}
    (refused,) = lines_of(api, batch.error_file_id)
    assert (refused["custom_id"], refused["response"]["status_code"]) == ("hot", 400)
    assert refused["response"]["body"]["error"]["param"] == "temperature"
    assert batch.id in [each.id for each in api.batches.list(limit=5)]


@pytest.mark.parametrize(
    ("lines", "code", "number"),
    [
        (["{"], "invalid_json_line", 1),
        ([line("a", "x"), "[]"], "invalid_json_line", 2),
        ([line("a", "x"), "", line("a", "y")], "duplicate_custom_id", 3),
        ([line("a", "x", stream=True)], "unsupported_parameter", 1),
        ([line("a", "x").replace("POST", "GET")], "invalid_method", 1),
        ([line("a", "x").replace(CHAT, "/v1/embeddings")], "mismatched_url", 1),
        (['{"custom_id": ""}'], "invalid_custom_id", 1),
    ],
)
def test_a_wrong_line_is_told_and_nothing_runs(
    api: openai.OpenAI, lines: list[str], code: str, number: int
) -> None:
    batch = ended(api, begun(api, sent(api, *lines)))
    assert batch.status == "failed"
    assert batch.errors is not None
    assert batch.errors.data is not None
    assert [(each.code, each.line) for each in batch.errors.data] == [(code, number)]
    assert batch.output_file_id is None


def test_a_cancelled_batch_keeps_its_answers(api: openai.OpenAI) -> None:
    batch = begun(api, sent(api, *(line(f"{number}", "!late") for number in range(60))))
    while api.batches.retrieve(batch.id).request_counts.completed < 4:  # pyright: ignore[reportOptionalMemberAccess]
        time.sleep(0.05)
    api.batches.cancel(batch.id)
    batch = ended(api, batch)
    assert batch.status == "cancelled"
    assert batch.request_counts is not None
    assert 4 <= batch.request_counts.completed == len(lines_of(api, batch.output_file_id)) < 60


def test_what_is_not_there_is_said(api: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        begun(api, "file-0")
    assert caught.value.code == "file_not_found"
    with pytest.raises(openai.NotFoundError):
        api.batches.retrieve("batch_0")
    with pytest.raises(openai.BadRequestError, match="endpoint"):
        begun(api, "file-0", "/v1/embeddings")


def test_files_of_lines_are_files(api: openai.OpenAI, video: str) -> None:
    document = sent(api, line("a", "x"), line("b", "y"))
    file = api.files.retrieve(document)
    assert (file.purpose, file.filename, file.status) == ("batch", "asked.jsonl", "processed")
    assert file.bytes == len(api.files.content(document).read()) - 1  # each line has its end
    assert document in [each.id for each in api.files.list(purpose="batch")]
    assert document not in [each.id for each in api.files.list()]
    assert api.files.delete(document).deleted
    with pytest.raises(openai.NotFoundError):
        api.files.retrieve(document)
    with pytest.raises(openai.BadRequestError, match="purpose"):
        api.files.create(file=("lines", b"{}"), purpose="vision")
    with pytest.raises(openai.BadRequestError, match="line 1"):
        api.files.create(file=("lines", b"{" + b"x" * 2**21), purpose="batch")


def test_a_file_is_kept_while_a_batch_runs(api: openai.OpenAI) -> None:
    document = sent(api, *(line(str(number), "!late") for number in range(30)))
    batch = begun(api, document)
    with pytest.raises(openai.ConflictError, match=batch.id):
        api.files.delete(document)
    api.batches.cancel(batch.id)
    ended(api, batch)
    assert api.files.delete(document).deleted


def test_after_a_restart_every_request_is_answered_once(tmp_path: Path) -> None:
    settings = Settings.model_validate(QUICK | {"data_dir": tmp_path / "data"})
    with running(settings) as server, api_of(server.url) as api:
        batch = begun(api, sent(api, *(line(f"{number}", "!late") for number in range(24))))
        while api.batches.retrieve(batch.id).request_counts.completed < 8:  # pyright: ignore[reportOptionalMemberAccess]
            time.sleep(0.02)
    with running(settings) as server, api_of(server.url) as api:
        batch = ended(api, batch)
        answers = lines_of(api, batch.output_file_id)
    names = Counter(each["custom_id"] for each in answers)
    assert names == Counter(map(str, range(24)))


def test_a_killed_server_goes_on_where_it_was(tmp_path: Path) -> None:
    asked = [line(str(number), "what is this?", model="embedded") for number in range(120)]
    with running_server(tmp_path) as server, api_of(server.url) as api:
        batch = begun(api, sent(api, *asked))
        while api.batches.retrieve(batch.id).request_counts.completed < 16:  # pyright: ignore[reportOptionalMemberAccess]
            time.sleep(0.02)
        server.process.kill()
        server.process.wait()
    with running_server(tmp_path) as server, api_of(server.url) as api:
        batch = ended(api, batch)
        answers = lines_of(api, batch.output_file_id)
    assert batch.status == "completed"
    names = Counter(each["custom_id"] for each in answers)
    assert names == Counter(map(str, range(120)))
