"""Who has no key can hold nothing that others need."""

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from server.settings import Settings
from tests.server.conftest import QUICK, RunningServer, count, error_of, running

HALF = b" HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000000\r\n\r\n"


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("keyed")
    (folder / "keys").write_text("secret-of-somebody\n", encoding="ascii")
    more = {"data_dir": folder / "data", "api_keys_file": folder / "keys", "wrong_keys_per_minute": 2}
    with running(Settings.model_validate(QUICK | more)) as server:
        yield server


@pytest.mark.parametrize("path", ["/docs", "/", "/openapi.json", "/health/live", "/static-offline-docs/x"])
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_open_pages_are_only_read(keyed: RunningServer, method: str, path: str) -> None:
    with keyed.client() as client:
        answer = client.request(method, path, content=b"{}")
        assert (answer.status_code, error_of(answer)["code"]) == (401, "invalid_api_key")
        assert not [name for name in answer.headers if name.startswith("x-ratelimit")]


def test_a_wrong_key_is_counted_wherever_it_is_tried(keyed: RunningServer) -> None:
    with keyed.client(headers={"authorization": "Bearer wrong"}) as client:
        assert [client.post("/docs").status_code for _ in range(4)][-1] == 429


def test_half_a_body_without_a_key_takes_no_place(keyed: RunningServer) -> None:
    port = int(keyed.url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port)) as stranger:
        stranger.sendall(b"POST /docs" + HALF)
        assert b" 401 " in stranger.recv(100)
        assert keyed.services.admission.num_running == keyed.services.admission.num_bytes == 0


def test_a_body_that_is_too_long_is_refused_before_it_is_counted(server: RunningServer) -> None:
    port = int(server.url.rpartition(":")[2])
    admission = server.services.admission
    with admission.enter("public") as other, socket.create_connection(("127.0.0.1", port)) as long:
        other.add(admission._bytes.total)  # pyright: ignore[reportPrivateUsage]
        long.sendall(b"POST /v1/video/frames" + HALF.replace(b"1000000", b"20000000"))
        assert b" 413 " in long.recv(100)


def test_a_refusal_while_json_comes_is_what_it_is(tmp_path: Path) -> None:
    settings = Settings.model_validate(QUICK | {"data_dir": tmp_path})
    with running(settings) as server, server.client() as client:
        with server.services.admission.enter("public") as other:
            other.add(server.services.admission._bytes.total - 10)  # pyright: ignore[reportPrivateUsage]
            answer = client.post(
                "/v1/video/chat",
                content=iter([b"{" + b" " * 100]),
                headers={"content-type": "application/json"},
            )
        assert (answer.status_code, error_of(answer)["code"]) == (503, "overloaded")
        assert answer.headers["retry-after"]


def test_a_client_that_leaves_amid_its_json_is_no_bad_request(
    server: RunningServer, client: httpx.Client
) -> None:
    port = int(server.url.rpartition(":")[2])
    names = ("btchat_requests_rejected_total", "btchat_http_requests_total")
    before = count(client, names[0], reason="invalid_json"), count(client, names[1], status="none")
    with socket.create_connection(("127.0.0.1", port)) as leaving:
        leaving.sendall(b"POST /v1/video/chat" + HALF + b"{")
    while count(client, names[1], status="none") == before[1]:
        time.sleep(0.01)
    assert count(client, names[0], reason="invalid_json") == before[0]
