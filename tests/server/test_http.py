"""What browsers, gateways, probes and careless clients do with every route."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from bt_model.errors import InvalidValueError
from server.main import create_app, start_services
from server.middleware.cors import cors_rules
from server.settings import Settings
from tests import fakes
from tests.server.conftest import QUICK, RunningServer, count, error_of, running

ORIGIN = "https://pages.example"
DOCUMENT_PATHS = ["/docs", "/redoc", "/openapi.json"]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server with a key, whose pages lie elsewhere."""
    folder = tmp_path_factory.mktemp("shared")
    (folder / "keys").write_text("secret-of-somebody\n", encoding="ascii")
    more = {"data_dir": folder / "data", "api_keys_file": folder / "keys", "cors_origins": (ORIGIN,)}
    with running(Settings.model_validate(QUICK | more)) as server:
        yield server


@pytest.fixture
def operations(client: httpx.Client, video: str) -> list[tuple[str, str, dict[str, Any]]]:
    """Method and path of every route, with ids of what there is, and what the document says of it."""
    given = {"video_id": video, "model_id": "fake/echo", "upload_id": video, "file_id": video}
    paths = client.get("/openapi.json").json()["paths"]
    return [
        (method.upper(), re.sub(r"\{(\w+)\}", lambda name: given.get(name[1], "none"), path), of)
        for path, methods in paths.items()
        for method, of in methods.items()
    ]


@pytest.mark.parametrize("path", ["/health/live", "/health", "/ping"])
def test_a_probe_of_the_process_needs_no_key(shared: RunningServer, path: str) -> None:
    with shared.client() as client:
        assert client.get(path).json() == {"status": "ok"}
        assert client.head(path).status_code == 200


def test_head_is_get_without_its_body(
    client: httpx.Client, operations: list[tuple[str, str, dict[str, Any]]]
) -> None:
    paths = [path for method, path, _ in operations if method == "GET"] + DOCUMENT_PATHS
    assert "/v1/video/uploads" in paths
    for path in (f"{path}?t=0" if path.endswith("/at.jpg") else path for path in paths):
        whole, head = client.get(path), client.head(path)
        assert (head.status_code, head.content) == (whole.status_code, b""), path
        assert whole.is_success or path.endswith(("/none", "/none.jpg"))
        changing = {"date", "x-request-id", *(["content-length"] if path == "/metrics" else [])}
        assert {name: value for name, value in head.headers.items() if name not in changing} == {
            name: value for name, value in whole.headers.items() if name not in changing
        }


def test_head_fails_as_get_does_and_is_counted_by_its_own_name(client: httpx.Client) -> None:
    names = {"handler": "/v1/models", "method": "HEAD"}
    assert 'handler="/v1/models",method="HEAD",status="5xx"' in client.get("/metrics").text  # from the start
    before = count(client, "btchat_http_requests_total", **names)
    assert client.head("/v1/models").status_code == 200
    assert count(client, "btchat_http_requests_total", **names) == before + 1
    assert client.head("/v1/video/uploads/vid_none").status_code == 404
    assert client.head("/v1/video/chat").status_code == 405
    assert "HEAD" not in client.get("/openapi.json").text


def test_no_route_ignores_a_query_parameter(
    client: httpx.Client, operations: list[tuple[str, str, dict[str, Any]]]
) -> None:
    for method, path, described in operations:
        if path == "/v1/video/uploads/resumable" and method == "OPTIONS":
            continue  # httpx has it, the document as well, and it is below
        answer = client.request(method, path, params={"page": "2"})
        assert answer.status_code == 400, (method, path)
        if method == "HEAD":
            continue
        error = error_of(answer)
        assert (error["code"], error["param"]) == ("unknown_parameter", "page")
        named = [each["name"] for each in described.get("parameters", []) if each["in"] == "query"]
        assert error["message"] is not None
        assert error["message"].endswith("allowed: " + (", ".join(named) or "none on this route"))
    assert client.options("/v1/video/uploads/resumable?page=2").status_code == 400


def test_known_query_parameters_and_those_of_pages_are_taken(client: httpx.Client) -> None:
    assert client.get("/v1/video/uploads", params={"limit": 1, "order": "asc"}).status_code == 200
    for path in [*DOCUMENT_PATHS, "/"]:
        assert client.get(path, params={"page": "2"}, follow_redirects=True).status_code == 200


def test_a_slash_at_the_end_changes_nothing(
    client: httpx.Client, operations: list[tuple[str, str, dict[str, Any]]]
) -> None:
    for method, path, _ in operations:
        if method == "DELETE":
            continue  # the second would find nothing
        plain, slashed = (client.request(method, f"{path}{end}") for end in ("", "/"))
        assert (slashed.status_code, path) == (plain.status_code, path)
        assert slashed.status_code not in (307, 405)
    assert client.delete("/v1/video/uploads/vid_none/").json()["error"]["code"] == "video_not_found"


@pytest.mark.parametrize("path", ["/v1/video/uploads", "/v1/chat/completions", "/v1/models"])
def test_a_preflight_is_answered_without_a_key(shared: RunningServer, path: str) -> None:
    asked = {
        "origin": ORIGIN,
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization,content-type,x-stainless-lang,idempotency-key",
    }
    with shared.client() as client:
        answer = client.options(path, headers=asked)
        assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, ORIGIN)
        allowed = answer.headers["access-control-allow-headers"].split(",")
        assert {"authorization", "x-stainless-lang", "idempotency-key"} <= set(allowed)
        assert "access-control-allow-credentials" not in answer.headers
        strange = client.options(path, headers=asked | {"origin": "https://other.example"})
        assert strange.status_code == 400
        assert "access-control-allow-origin" not in strange.headers


@pytest.mark.parametrize(
    ("path", "status"), [("/health", 200), ("/v1/models", 401), ("/v1/video/chat", 401), ("/nothing", 401)]
)
def test_a_page_may_read_errors_as_well(shared: RunningServer, path: str, status: int) -> None:
    with shared.client() as client:
        answer = client.get(path, headers={"origin": ORIGIN})
        assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (status, ORIGIN)
        exposed = answer.headers["access-control-expose-headers"].lower().split(", ")
        assert {"x-request-id", "retry-after", "location", "upload-offset", "etag", "server-timing"} <= {
            *exposed
        }
        assert {"x-ratelimit-remaining-requests", "x-ratelimit-reset-tokens"} <= {*exposed}
        other = client.get(path, headers={"origin": "https://pages.example.evil"})
        assert "access-control-allow-origin" not in other.headers


def test_an_internal_error_can_be_read_by_a_page(
    shared: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared.services.store, "page", None)
    headers = {"origin": ORIGIN, "authorization": "Bearer secret-of-somebody"}
    with shared.client() as client:
        answer = client.get("/v1/video/uploads", headers=headers)
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (500, ORIGIN)


def test_no_origin_is_told_anything_where_none_is_set(client: httpx.Client) -> None:
    answer = client.get("/health", headers={"origin": ORIGIN})
    assert not [name for name in answer.headers if name.startswith("access-control")]


@pytest.mark.parametrize(
    "origin",
    [
        "*",
        "https://*.example",
        "https://a.example/",
        "a.example",
        "https://a.example:443",
        "HTTPS://A",
        "null",
    ],
)
def test_an_origin_that_no_browser_sends_ends_the_start(origin: str, tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, cors_origins=(origin,))
    with pytest.raises(InvalidValueError, match="cors_origins is"):
        create_app(settings, lambda: start_services(settings, fakes.command()))


@pytest.mark.parametrize("origin", ["http://localhost:3000", "http://[::1]:8080", "app://obsidian.md"])
def test_exact_origins_are_taken(origin: str) -> None:
    assert cors_rules((origin,))["allow_origins"] == (origin,)
