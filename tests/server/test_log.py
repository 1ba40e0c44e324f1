"""The log: a line for every request, one id on all lines of it, and nothing that does not belong there."""

import io
import json
import logging
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from server.log.lines import MAX_LINE_BYTES, JsonLines, TextLines
from server.log.request import begin
from server.log.secrets import redacted
from server.settings import Settings
from tests.server.conftest import QUICK, RunningServer, question, running
from tests.server.test_streams import until

Lines = Callable[[int], list[dict[str, Any]]]

NASTY = {
    "line breaks": "a\r\nb\n{}\x0b\x0c\x1c\x85",
    "terminal": "\x1b[2J\x1b]0;title\x07\x9b31m\x7f",
    "unicode's line breaks": "\u2028\u2029\u202e",
    "half a character": "\ud800",
    "nul": "\x00",
    "a megabyte": "\U0001f600" * 250_000,
    "quotes": '"}\n{"level": "error',
}


@pytest.fixture
def lines() -> Iterator[Lines]:
    """Reads the log as it is written: waits until it has so many lines."""
    file = io.StringIO()
    handler = logging.StreamHandler(file)
    handler.setFormatter(JsonLines("web"))
    server = logging.getLogger("server")
    server.addHandler(handler)
    server.setLevel("INFO")

    def read(count: int) -> list[dict[str, Any]]:
        assert until(lambda: file.getvalue().count("\n") >= count)
        return [json.loads(line) for line in file.getvalue().splitlines()]

    yield read
    server.removeHandler(handler)
    server.setLevel("NOTSET")


def test_a_request_has_one_line_with_the_id_that_its_client_has(server: RunningServer, lines: Lines) -> None:
    with server.client() as client:
        client.headers["user-agent"] = "spy"
        answered = client.get("/v1/models?token=abc", headers={"authorization": "Bearer secret"})
        missing = client.get("/v1/nothing")
    first, second = lines(2)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", first.pop("time"))
    assert 0 < first.pop("seconds") < 5
    assert first == {
        "level": "info",
        "process": "web",
        "logger": "server.middleware.envelope",
        "message": "request",
        "request_id": answered.headers["x-request-id"],
        "method": "GET",
        "path": "/v1/models",
        "route": "/v1/models",
        "status": 400,
        "code": "unknown_parameter",
        "client": "127.0.0.1",
    }
    assert (second["status"], second["code"], second["request_id"]) == (
        404,
        "not_found",
        missing.headers["x-request-id"],
    )
    assert "route" not in second


@pytest.mark.parametrize(
    ("given", "is_kept"),
    [("req_1.a-B", True), ("a" * 64, True), ("a" * 65, False), ("a b", False), ("é", False)],
)
def test_a_clients_own_id_is_kept_where_it_is_one(client: httpx.Client, given: str, is_kept: bool) -> None:
    answer = client.get("/health/live", headers=[(b"x-request-id", given.encode())])
    assert (answer.headers["x-request-id"] == given) == is_kept
    assert re.fullmatch(r"[\w.-]{1,64}", answer.headers["x-request-id"])


def test_an_answers_line_says_what_it_was_about_and_nothing_of_what_was_said(
    client: httpx.Client, video: str, lines: Lines
) -> None:
    client.post("/v1/video/chat", json=question(video, "seven words"))
    (line,) = lines(1)
    facts = {name: line[name] for name in ("model", "video", "answers", "prompt_tokens", "completion_tokens")}
    assert facts == {
        "model": "fake/echo", "video": video, "answers": 1, "prompt_tokens": 7, "completion_tokens": 2
    }  # fmt: skip
    assert "seven" not in json.dumps(line)


def test_what_fails_deep_within_has_the_requests_id(
    client: httpx.Client, video: str, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError("deep")

    monkeypatch.setattr("server.answers.flow.receipt_of", fail)
    client.post("/v1/video/chat", json=question(video, stream=True), headers={"x-request-id": "mine"})
    deep, own = lines(2)
    assert (deep["logger"], deep["request_id"]) == ("server.answers.flow", "mine")
    assert deep["exception"].endswith("ZeroDivisionError: deep")
    assert (own["request_id"], own["status"], own["code"]) == ("mine", 200, "internal_error")


def test_an_unforeseen_error_is_on_the_requests_one_line(
    client: httpx.Client, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise ZeroDivisionError("secret")

    monkeypatch.setattr("server.routes.health.platform.python_version", fail)
    client.get("/version")
    (line,) = lines(1)
    assert (line["level"], line["status"], line["code"]) == ("error", 500, "internal_error")
    assert line["exception"].endswith("ZeroDivisionError: secret")


def test_a_path_is_escaped_and_cut(client: httpx.Client, lines: Lines) -> None:
    client.get("/v1/a%0Ab%1B%5B1m" + "x" * 5000)
    (line,) = lines(1)
    assert line["path"].startswith("/v1/a%0Ab%1B%5B1mxxx")
    assert len(line["path"]) == 200


def test_probes_are_not_logged_but_their_failures_are(client: httpx.Client, lines: Lines) -> None:
    assert client.get("/health/live").is_success
    assert client.post("/metrics").status_code == 405
    assert [line["path"] for line in lines(1)] == ["/metrics"]


def test_details_are_logged_where_it_is_asked(tmp_path: Path, clip: bytes, lines: Lines) -> None:
    settings = Settings.model_validate(QUICK | {"data_dir": tmp_path, "log_details": True})
    with running(settings) as server, server.client() as client:
        client.post("/v1/video/uploads?filename=me.mp4", content=clip, headers={"user-agent": "curl"})
        # lines of a start that took longer may come first
        assert until(lambda: any(line.get("route") == "/v1/video/uploads" for line in lines(0)))
        line = next(line for line in lines(0) if line.get("route") == "/v1/video/uploads")
    assert (line["query"], line["user_agent"], line["file_name"]) == ("filename=me.mp4", "curl", "me.mp4")


@pytest.mark.parametrize("name", NASTY)
def test_whatever_is_logged_is_one_object_on_one_line(name: str) -> None:
    begin("mine")
    text = NASTY[name]
    facts = {"facts": {"model": text}}
    failure = (ValueError, ValueError(text), None)
    record = logging.getLogger("server").makeRecord(
        "server", logging.ERROR, "", 0, "got %s", (text,), failure, extra=facts
    )
    line = JsonLines("web").format(record)
    assert line.isascii()
    assert line.isprintable()
    assert len(line) <= MAX_LINE_BYTES
    found = json.loads(line)
    assert (found["request_id"], found["message"][:4]) == ("mine", "got ")
    assert "ValueError" in found["exception"] or len(text) > MAX_LINE_BYTES
    found["message"].encode()
    shown = TextLines("web").format(record)
    assert "".join(shown.splitlines()).isprintable()
    assert "model=" in shown.split("\n")[0]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("see https://me:pw@host/x and rest", "see https://***@host/x and rest"),
        ("'ftp://me:p@w@host'", "'ftp://***@host'"),
        (r"https:\\me:pw@host\x", r"https:\\***@host\x"),
        ("is 'https://me:cut of", "is 'https://*** of"),
        ("http://127.0.0.1:8000/docs", "http://127.0.0.1:8000/docs"),
        ("//host/a@b", "//host/a@b"),
        ("no route GET /v1/https:%5C%5Cme:pw@host", "no route GET /v1/***@host"),
        ("write to me@host, 12:30", "write to me@host, 12:30"),
    ],
)
def test_names_and_passwords_in_urls_are_not_shown(text: str, shown: str) -> None:
    assert redacted(text) == shown


@pytest.mark.parametrize(("level", "is_shown"), [("info", True), ("warning", False)])
def test_lines_go_to_the_standard_error_from_the_level_on(level: str, is_shown: bool) -> None:
    code = f"""
import logging, warnings
from server.log.lines import configure_log
configure_log({level!r}, "auto", "engine")
logging.getLogger("server.x").info("ours")
logging.getLogger("else").info("not ours")
warnings.warn("careful")
raise ZeroDivisionError
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    found = [json.loads(line) for line in run.stderr.splitlines()]
    assert {line["process"] for line in found} == {"engine"}
    assert [line["level"] for line in found] == [*["info"] * is_shown, "warning", "critical"]
    assert not run.stdout
