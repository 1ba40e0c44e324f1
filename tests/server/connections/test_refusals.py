"""What is no request is refused like any other: with an id, a count and a line in the log."""

import logging
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from server.log.request import ID_HEADER
from server.settings import Settings
from tests.server.conftest import QUICK, RunningServer, count, running
from tests.server.connections.test_turns import POST, asked
from tests.server.test_streams import until

ID = re.compile(rb"x-request-id: (\S+)\r\n")
GARBAGE = b"GET / HTTP/1.1\r\nHost: localhost\r\nno header\r\n\r\n"
REJECTED = "btchat_requests_rejected_total"


class Lines(logging.Handler):
    """Of requests, and all warnings."""

    def __init__(self) -> None:
        super().__init__()
        self.requests: list[dict[str, object]] = []
        self.warnings: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        facts = getattr(record, "facts", {})
        if facts.get("status", 0) >= 400:
            self.requests.append(facts)
        if record.levelno >= logging.WARNING:
            self.warnings.append(record.getMessage())


@pytest.fixture
def lines() -> Iterator[Lines]:
    lines = Lines()
    loggers = [logging.getLogger(name) for name in ("server", "uvicorn")]
    for logger in loggers:
        logger.addHandler(lines)
        logger.setLevel("INFO")
    yield lines
    for logger in loggers:
        logger.removeHandler(lines)
        logger.setLevel("NOTSET")


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[RunningServer]:
    """A server that has refused nothing yet."""
    with running(Settings.model_validate(QUICK | {"data_dir": tmp_path, "header_seconds": 0.3})) as server:
        yield server


def id_of(answer: bytes) -> str:
    found = ID.findall(answer)
    assert len(found) == 1
    return found[0].decode()


@pytest.mark.parametrize(
    ("sent", "status", "code"),
    [
        (GARBAGE, 400, "invalid_http"),
        (b"GET / HTTP/1.1\r\n\r\n", 400, "invalid_http"),
        (b"x" * 20_000, 400, "invalid_http"),
        (b"GET / HTTP/1.1\r\nHost:", 408, "header_timeout"),
    ],
)
def test_what_is_no_request_is_told_counted_and_logged(
    fresh: RunningServer, lines: Lines, sent: bytes, status: int, code: str
) -> None:
    answer = asked(fresh.url, sent)
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert f'"code":"{code}"'.encode() in answer
    (line,) = lines.requests
    assert (line["request_id"], line["status"], line["code"]) == (id_of(answer), status, code)
    assert (line["client"], line["refused"]) == ("127.0.0.1", 1)
    assert lines.warnings == []
    with fresh.client() as client:
        assert count(client, REJECTED, reason=code) == 1
        assert count(client, "btchat_http_requests_total", method="other", status="4xx") == 1


@pytest.mark.parametrize("is_at_once", [True, False])
def test_a_body_that_is_no_http_is_of_its_request(
    fresh: RunningServer, lines: Lines, is_at_once: bool
) -> None:
    address = httpx.URL(fresh.url)
    with socket.create_connection((address.host, address.port or 0), timeout=10) as connection:
        begin, end = POST[:-2] + b"x-request-id: mine\r\n\r\n1\r\na\r\n", b"nonsense\r\n"
        if not is_at_once:
            connection.sendall(begin)
            time.sleep(0.3)
        connection.sendall(begin + end if is_at_once else end)
        answer = connection.recv(65536)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert id_of(answer) == "mine"
    assert until(lambda: lines.requests)
    (line,) = lines.requests
    assert (line["request_id"], line["status"], line["code"]) == ("mine", 400, "invalid_http")
    assert line["path"] == "/v1/video/uploads"
    with fresh.client() as client:
        assert count(client, REJECTED, reason="invalid_http") == 1


def test_many_refusals_are_a_few_lines(fresh: RunningServer, lines: Lines) -> None:
    begin = time.monotonic()
    for _ in range(30):
        asked(fresh.url, GARBAGE)
    assert len(lines.requests) <= 2 + time.monotonic() - begin
    time.sleep(1)
    last = id_of(asked(fresh.url, GARBAGE))
    assert lines.requests[-1]["request_id"] == last
    assert sum(int(str(line["refused"])) for line in lines.requests) == 31
    with fresh.client() as client:
        assert count(client, REJECTED, reason="invalid_http") == 31


def test_nothing_that_is_said_of_a_refusal_is_said_of_what_comes_later(fresh: RunningServer) -> None:
    refused = asked(fresh.url, GARBAGE)
    with fresh.client() as client:
        assert client.get("/health/live").headers[ID_HEADER] != id_of(refused)


@pytest.mark.parametrize("protocol", ["h2c", "websocket"])
def test_another_protocol_is_not_spoken_and_nobody_is_advised(
    fresh: RunningServer, lines: Lines, protocol: str
) -> None:
    with fresh.client() as client:
        answer = client.get("/health/live", headers={"connection": "upgrade", "upgrade": protocol})
    assert answer.is_success
    assert lines.warnings == []
