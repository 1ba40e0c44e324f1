"""Bodies in absurdly small chunks: what nobody asks for is not parsed, the rest in turns with all others."""

import asyncio
import socket
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import h11
import httpx
import pytest

from server.connections.state import ParserTurns
from server.settings import Settings
from tests.server.conftest import QUICK, RunningServer, running

A_TURN = 64
POST = b"POST /v1/video/uploads HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
LIVE = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


def in_chunks(content: bytes, size: int = 1) -> bytes:
    pieces = (content[at : at + size] for at in range(0, len(content), size))
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)


def asked(url: str, request: bytes) -> bytes:
    """All that is answered until the server closes."""
    address = httpx.URL(url)
    with socket.create_connection((address.host, address.port or 0), timeout=20) as connection:
        connection.sendall(request)
        answer = b""
        try:
            while piece := connection.recv(65536):
                answer += piece
        except ConnectionResetError:  # a part of the request was not read
            pass
    return answer


@contextmanager
def counted(server: RunningServer, monkeypatch: pytest.MonkeyPatch) -> Generator[Counter[int]]:
    """How many pieces of bodies were parsed, by the rounds of the server's event loop."""
    parsed, rounds, parse = Counter[int](), 0, h11.Connection.next_event

    def count(connection: h11.Connection) -> object:
        event = parse(connection)
        # a body's alone: the connection that asked whether the server is ready may end only now
        parsed[rounds] += connection.our_role is h11.SERVER and isinstance(event, h11.Data)
        return event

    async def tick() -> None:
        nonlocal rounds
        while True:
            rounds += 1
            await asyncio.sleep(0)

    with monkeypatch.context() as patch:
        patch.setattr(h11.Connection, "next_event", count)
        ticking = asyncio.run_coroutine_threadsafe(tick(), server.loop)
        try:
            yield parsed
        finally:
            ticking.cancel()


def test_of_a_body_without_a_key_little_is_parsed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "keys").write_text("a key of some length\n")
    values = {"data_dir": tmp_path / "data", "api_keys_file": tmp_path / "keys"}
    with (
        running(Settings.model_validate(QUICK | values)) as server,
        counted(server, monkeypatch) as parsed,
    ):
        assert asked(server.url, POST + in_chunks(bytes(40_000))).startswith(b"HTTP/1.1 401 ")
    assert 0 < parsed.total() < A_TURN


@pytest.mark.parametrize("size", [1, 7, 5000])
def test_an_upload_in_small_chunks_is_parsed_in_turns(
    server: RunningServer, clip: bytes, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    content = clip[:20_000] if size == 1 else clip
    request = POST + in_chunks(content, size) + b"0\r\n\r\n" + LIVE
    with counted(server, monkeypatch) as parsed:
        answer = asked(server.url, request)
    assert answer.count(b"HTTP/1.1 ") == 2
    assert answer.endswith(b'{"status":"ok"}')
    if size > 1:
        assert b'"width":' in answer  # of the clip, which came as it was sent
    assert max(parsed.values()) <= 2 * A_TURN
    assert parsed.total() >= len(content) // size


@pytest.mark.parametrize("path", [b"/v1/nothing", b"/health/live"])
def test_a_body_that_nobody_asks_for_keeps_no_request_behind_it_waiting(
    server: RunningServer, path: bytes
) -> None:
    body = b"x" * 200_000
    request = b"POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % (path, len(body))
    answer = asked(server.url, request + body + LIVE)
    assert answer.endswith(b'{"status":"ok"}')


async def test_one_connection_goes_on_in_each_round() -> None:
    turns, taken = ParserTurns(), list[int]()

    class Connection:
        def __init__(self, number: int) -> None:
            self.number, self.num_left = number, 2

        def take_turn(self) -> None:
            taken.append(self.number)
            self.num_left -= 1
            if self.num_left:
                turns.add(self)  # pyright: ignore[reportArgumentType] - has what is asked for here

    for number in range(3):
        turns.add(Connection(number))  # pyright: ignore[reportArgumentType] - as above
    for count in range(1, 8):
        await asyncio.sleep(0)
        assert len(taken) == min(count, 6)
    assert taken == [0, 1, 2, 0, 1, 2]
