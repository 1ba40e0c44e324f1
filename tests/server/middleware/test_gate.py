"""Who is let in: by the name that a server is called by, and while there is room for a connection."""

from pathlib import Path

import httpx
import pytest

from server.middleware.gate import allowed_hosts
from server.settings import Settings
from tests.server.conftest import QUICK, error_of, question, running


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:8000", "127.0.0.1:1", "127.9.9.9", "[::1]:8000", "[::1]"]
)
def test_a_loopback_server_is_called_by_a_name_of_this_machine(client: httpx.Client, host: str) -> None:
    assert client.get("/v1/models", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "rebound.example:8000",
        "localhost.example",
        "127.0.0.1.example",
        "192.168.1.1",
        "",
        "x",
        "[::2]",
        "::1",
    ],
)
def test_no_name_that_a_page_may_have_reaches_it(client: httpx.Client, host: str) -> None:
    for path in ("/v1/models", "/health/live"):
        answer = client.get(path, headers={"host": host})
        assert (answer.status_code, error_of(answer)["code"]) == (421, "host_not_allowed")
        assert "allowed: localhost" in str(error_of(answer)["message"])


@pytest.mark.parametrize(
    ("settings", "hosts"),
    [
        (Settings(), ("localhost",)),
        (Settings(host="::1"), ("localhost",)),
        (Settings(host="0.0.0.0"), ("*",)),
        (Settings(api_keys_file=Path("keys")), ("*",)),
        (Settings(allowed_hosts=("a.example",)), ("a.example",)),
    ],
)
def test_names_are_asked_for_where_nothing_else_is(settings: Settings, hosts: tuple[str, ...]) -> None:
    assert allowed_hosts(settings) == hosts


def test_a_connection_too_many_is_refused_with_a_status_but_the_server_is_seen_to_live(
    tmp_path: Path, clip: bytes
) -> None:
    settings = Settings.model_validate(QUICK | {"data_dir": tmp_path, "max_connections": 1})
    with running(settings) as server, server.client() as client:
        video = client.post("/v1/video/uploads", content=clip).json()["id"]
        with client.stream("POST", "/v1/video/chat", json=question(video, "!slow", stream=True)) as answer:
            lines = answer.iter_lines()  # whoever drops these hangs up
            next(lines)
            refused = httpx.get(f"{server.url}/v1/models")
            assert (refused.status_code, error_of(refused)["code"]) == (503, "overloaded")
            assert refused.headers["retry-after"]
            assert httpx.get(f"{server.url}/health/live").status_code == 200
        assert httpx.get(f"{server.url}/v1/models").status_code == 200  # the one that idles gives way
