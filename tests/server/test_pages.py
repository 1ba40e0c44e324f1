"""The pages of the documentation: they need no other host, and open where keys are set."""

import re
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import fastapi_offline
import httpx
import pytest

from server.middleware.keys import PAGE_FILES
from server.settings import Settings
from tests.server.conftest import QUICK, running

PAGES = ("/docs", "/redoc")


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """One without a key, at a server that asks for one."""
    folder = tmp_path_factory.mktemp("pages")
    (folder / "keys").write_text("a key of some length\n")
    settings = Settings.model_validate(QUICK | {"data_dir": folder, "api_keys_file": folder / "keys"})
    with running(settings) as server, server.client() as client:
        yield client


@pytest.mark.parametrize("page", PAGES)
def test_a_page_and_all_that_it_loads_come_from_this_server(stranger: httpx.Client, page: str) -> None:
    answer = stranger.get(page).raise_for_status()
    assert answer.headers["content-security-policy"].startswith("default-src 'self'")
    html = answer.text
    loaded = re.findall(r"""(?:src|href)=["']([^"']+)""", html) + re.findall(r"""url: '([^']+)'""", html)
    assert len(loaded) > 1
    assert "://" not in "".join(loaded)
    assert "//fonts." not in html
    for path in loaded:
        assert stranger.get(path).is_success, path


def test_the_start_leads_to_the_documentation(stranger: httpx.Client) -> None:
    answer = stranger.get("/")
    assert (answer.status_code, answer.headers["location"]) == (307, "/docs")


def test_a_page_asks_for_a_key_where_a_route_needs_one(stranger: httpx.Client, client: httpx.Client) -> None:
    paths = stranger.get("/openapi.json").json()["paths"]
    assert paths["/v1/video/chat"]["post"]["security"] == [{"HTTPBearer": []}]
    assert "security" not in paths["/health/live"]["get"]
    asked = client.get("/openapi.json").json()  # no key is set there
    assert not [each for item in asked["paths"].values() for each in item.values() if "security" in each]
    assert {} in asked["security"]


def test_an_answer_that_is_not_read_holds_no_file_open(stranger: httpx.Client) -> None:
    url = stranger.base_url
    path = f"{PAGE_FILES}/redoc.standalone.js"
    content = stranger.get(path).content
    with ExitStack() as stack:
        for _ in range(5):
            connection = stack.enter_context(socket.socket())
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.connect((url.host, url.port or 0))
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            assert connection.recv(9) == b"HTTP/1.1 "
        opened = [str(link.readlink()) for link in Path("/proc/self/fd").iterdir() if link.exists()]
        assert [each for each in opened if each.endswith(".js")] == []
    whole = stranger.get(path, headers={"range": "bytes=0-0"})
    assert (whole.status_code, whole.content) == (200, content)
    assert stranger.get(path, headers={"if-none-match": whole.headers["etag"]}).status_code == 304
    assert stranger.head(path).headers["content-length"] == str(len(content))


@pytest.mark.parametrize("path", ["/v1/models", "/metrics", "/version", "/static-offline-docs", "/docs/x"])
def test_nothing_else_is_open(stranger: httpx.Client, path: str) -> None:
    assert stranger.get(path).status_code == 401


@pytest.mark.parametrize("path", ["../core.py", "%2e%2e/core.py", "..%2fcore.py", "/etc/passwd"])
def test_a_path_out_of_the_pages_files_leads_nowhere(stranger: httpx.Client, path: str) -> None:
    assert (Path(fastapi_offline.__file__).parent / "core.py").is_file()  # beside the folder that is served
    url = stranger.base_url
    head = f"GET {PAGE_FILES}/{path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    with socket.create_connection((url.host, url.port or 0), timeout=10) as connection:
        connection.sendall(head.encode())  # as it is: a client would resolve it
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answer.startswith((b"HTTP/1.1 404", b"HTTP/1.1 401"))
