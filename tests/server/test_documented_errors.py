"""The errors of the OpenAPI document and of docs/api.md; conftest watches servers for others."""

import re
from pathlib import Path

import httpx

from server.problems import CODES, OPENAI_PATHS, STATUSES, status_on

PAGE = Path(__file__).parents[2] / "docs" / "api.md"


def test_the_page_names_every_code_and_no_other() -> None:
    table = PAGE.read_text(encoding="utf-8").split("## Errors")[1]
    page = {
        status: set(re.findall(r"`([a-z_]+)`", codes))
        for statuses, codes in re.findall(r"^\| ([\d, ]+) \| (.*) \|$", table, re.MULTILINE)
        for status in map(int, statuses.split(", "))
    }
    assert page == {status: set(codes) for status, codes in CODES.items()}


def test_an_error_class_has_a_code_of_its_status() -> None:
    assert [kind for kind, status in STATUSES.items() if kind.code not in CODES[status]] == []


def test_every_error_is_our_object_and_none_is_fastapis(client: httpx.Client) -> None:
    document = client.get("/openapi.json").json()
    assert not {"HTTPValidationError", "ValidationError"} & document["components"]["schemas"].keys()
    ours = {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorObject"}}}
    for path, operation in ((path, each) for path, of in document["paths"].items() for each in of.values()):
        for status, response in operation["responses"].items():
            if status >= "400":
                assert response["content"] == ours
                named = [codes for each, codes in CODES.items() if status_on(path, each) == int(status)]
                assert any(", ".join(codes) in response["description"] for codes in named)
                assert ("Retry-After" in response.get("headers", {})) == (status in ("429", "503"))


def test_where_openais_clients_ask_errors_have_openais_statuses(client: httpx.Client) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    asked = [paths[path]["post"]["responses"] for path in OPENAI_PATHS & paths.keys()]
    assert asked
    for responses in asked:
        assert {status for status in responses if "400" <= status < "500"} <= {
            "400", "401", "403", "413", "415", "429"
        }  # fmt: skip
        for code in (
            "invalid_value",
            "model_not_found",
            "video_not_found",
            "truncated_video",
            "body_timeout",
        ):
            assert code in responses["400"]["description"]
        assert "host_not_allowed" in responses["403"]["description"]
