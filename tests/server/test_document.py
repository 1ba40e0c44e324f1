"""The OpenAPI document: everything is described, its examples are answered, and types can be made of it."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from server.bodies.examples import EXAMPLES, VIDEO
from server.main import create_app
from server.settings import Settings
from tests.server.conftest import RunningServer

CALLS = [
    (operation, summary, body) for operation, shown in EXAMPLES.items() for summary, body in shown.items()
]


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return create_app(Settings(), lambda: None).openapi()  # pyright: ignore[reportArgumentType] - is not started


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in document["paths"].items():
        for method, operation in item.items():
            yield method, path, operation


def test_every_property_and_every_parameter_is_described(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    bare = [
        f"{name}.{each}"
        for name, schema in schemas.items()
        for each, of in schema.get("properties", {}).items()
        if not of.get("description")
    ]
    bare += [
        f"{method} {path} {each['name']}"
        for method, path, operation in operations(document)
        for each in operation.get("parameters", [])
        if not each.get("description")
    ]
    assert bare == []
    assert not [name for name, schema in schemas.items() if not schema.get("description")]


def test_operations_have_names_of_their_own(document: dict[str, Any]) -> None:
    names = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(set(names)) == len(names)
    assert all(name.isidentifier() and name.islower() for name in names)
    tags = {tag["name"] for tag in document["tags"]}
    assert {tag for _, _, operation in operations(document) for tag in operation["tags"]} <= tags


def test_no_object_is_a_union_for_programs_that_make_types(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"].values()
    assert not [each for each in schemas if each.get("type") == "object" and {"anyOf", "allOf"} & each.keys()]


def test_a_key_is_told_of(document: dict[str, Any]) -> None:
    assert document["components"]["securitySchemes"]["HTTPBearer"]["scheme"] == "bearer"


@pytest.mark.parametrize(("operation", "summary", "body"), CALLS, ids=[summary for _, summary, _ in CALLS])
def test_an_example_is_answered(
    server: RunningServer, video: str, operation: str, summary: str, body: dict[str, Any]
) -> None:
    sent = json.loads(json.dumps(body).replace(VIDEO, video))
    with server.client() as client:
        document = client.get("/openapi.json").json()
        (path,) = (path for _, path, each in operations(document) if each["operationId"] == operation)
        shown = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["examples"]
        answer = client.post(path, json=sent)
    assert shown[summary]["value"] == body
    assert answer.status_code == 200, answer.text
    assert '"error":{' not in answer.text
