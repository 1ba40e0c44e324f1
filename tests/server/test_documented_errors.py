"""The errors of the OpenAPI document and of docs/api.md; conftest watches servers for others."""

import re
from pathlib import Path

import httpx

from server.problems import CODES, STATUSES

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
    for operation in (each for path in document["paths"].values() for each in path.values()):
        for status, response in operation["responses"].items():
            if status >= "400":
                assert response["content"] == ours
                assert response["description"].endswith(", ".join(CODES[int(status)]))
                assert ("Retry-After" in response.get("headers", {})) == (status in ("429", "503"))
