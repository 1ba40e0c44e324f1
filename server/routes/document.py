"""The OpenAPI document: what FastAPI does not know of the routes."""

from collections.abc import Iterator, Mapping
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from server.bodies.completions import CompletionChunk
from server.bodies.errors import ErrorObject
from server.bodies.response_objects import (
    ItemEvent,
    PartEvent,
    ResponseEvent,
    TextDeltaEvent,
    TextDoneEvent,
)
from server.middleware.gate import ALWAYS_OPEN
from server.routes.errors import error_response, rename_errors

CHUNKS: tuple[type[BaseModel], ...] = (CompletionChunk, ErrorObject)
RESPONSE_EVENTS: tuple[type[BaseModel], ...] = (
    *(ResponseEvent, ItemEvent, PartEvent, TextDeltaEvent, TextDoneEvent),
    ErrorObject,
)
TAGS = [
    {"name": "chat", "description": "Answers about videos."},
    {"name": "videos", "description": "Uploads, and what a model sees of them."},
    {"name": "files", "description": "The same uploads, as OpenAI's clients send and see them."},
    {"name": "batches", "description": "Many questions in one file, answered when there is room."},
    {"name": "models", "description": "The models that can be asked."},
    {"name": "health", "description": "Whether this server lives and can answer, its versions and metrics."},
]
SUMMARY = "Ask questions about videos."
DESCRIPTION = """\
Upload a video (`POST /v1/video/uploads`), then ask about it (`POST /v1/video/chat`), or with OpenAI's
clients (`POST /v1/chat/completions`). Every answer has a `receipt`: the frames that the model saw, and what
the answer took. Every error has one form, `{"error": {"message", "type", "param", "code"}}`.
"""
_REF = "#/components/schemas/{model}"
_BEARER = {"type": "http", "scheme": "bearer", "description": "an API key; none where the server has no keys"}


def operation_id(route: APIRoute) -> str:
    """Clients that are generated name their functions so."""
    return route.name


def streamed(
    whole: type[BaseModel], events: tuple[type[BaseModel], ...], description: str
) -> dict[int | str, dict[str, Any]]:
    """The success of a route that answers whole or, where `stream` is true, in events of these kinds."""
    items = [{"$ref": _REF.format(model=each.__name__)} for each in events]
    text = "Server-sent events, each with one of these objects as its data; comments tell the progress."
    stream = {"schema": {"type": "string", "description": text}, "itemSchema": {"anyOf": items}}
    return {200: {"model": whole, "description": description, "content": {"text/event-stream": stream}}}


def document(app: FastAPI) -> None:
    """Complete an application's document: the errors that its routes send, events, and how a key is sent."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            _complete(generate())
        return generate()

    app.openapi = openapi


def _complete(document: dict[str, Any]) -> None:
    schemas: dict[str, Any] = document["components"]["schemas"]
    kinds = [(each, "serialization") for each in (*CHUNKS, *RESPONSE_EVENTS)]
    _, events = models_json_schema(kinds, ref_template=_REF)  # pyright: ignore[reportArgumentType] - of modes
    document["components"]["schemas"] = {**events["$defs"], **schemas}
    for name in ("HTTPValidationError", "ValidationError"):
        document["components"]["schemas"].pop(name, None)
    for path, operation in _operations(document):
        responses: dict[str, Any] = operation["responses"]
        # FastAPI's own, for every route with a parameter: here such an error is 400, in our form
        if "HTTPValidationError" in str(responses.get("422")):
            del responses["422"]
        has_key = "security" in operation
        every = {401: has_key, 421: True, 429: has_key, 500: True, 503: path not in ALWAYS_OPEN}
        for status in (status for status, is_sent in every.items() if is_sent):
            responses[str(status)] = error_response(status)
        rename_errors(path, responses)
    _say_key(document)


def _say_key(document: dict[str, Any]) -> None:
    """Where there are no keys, one may be sent all the same."""
    document["components"].setdefault("securitySchemes", {})["HTTPBearer"] = _BEARER
    if not any("security" in operation for _, operation in _operations(document)):
        document["security"] = [{}, {"HTTPBearer": []}]


def _operations(document: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, item in document["paths"].items():
        for operation in item.values():
            yield path, operation
