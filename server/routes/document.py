"""The OpenAPI document: what FastAPI does not know of the routes."""

from collections.abc import Iterator, Mapping
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from server.bodies.completions import CompletionChunk
from server.bodies.errors import ErrorObject
from server.bodies.examples import EXAMPLES
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
_PARAMETERS = {
    "upload_id": "id of an upload that has begun",
    "video_id": "id of an upload, or its SHA-256",
    "file_id": "id of a file",
    "response_id": "id of a response that is kept",
    "batch_id": "id of a batch",
    "model_id": "name of a model",
    "after": "the last id of the page before",
    "limit": "the most of a page",
    "order": "by time: the newest (desc) or the oldest (asc) first",
    "accept": "application/json asks for JSON",
}
_JSON = "application/json"
_REF = "#/components/schemas/{model}"
_BEARER = {"type": "http", "scheme": "bearer", "description": "an API key; none where the server has no keys"}


def operation_id(route: APIRoute) -> str:
    """Clients that are generated name their functions so."""
    return route.name


def streamed(
    whole: type[BaseModel], events: tuple[type[BaseModel], ...], description: str
) -> dict[int | str, dict[str, Any]]:
    """The success of a route that answers whole or, where `stream` is true, in events of these kinds."""
    objects = [{"$ref": _REF.format(model=each.__name__)} for each in events]
    data: dict[str, Any] = {"type": "string", "contentMediaType": _JSON, "contentSchema": {"anyOf": objects}}
    event = {
        "type": "object",
        "description": "A server-sent event, the data of which is one of these; comments tell the progress.",
        "properties": {"event": {"type": "string"}, "data": {"anyOf": [data, {"const": "[DONE]"}]}},
        "required": ["data"],
    }
    # programs that make clients take the first
    content: dict[str, Any] = {_JSON: {}, "text/event-stream": {"itemSchema": event}}
    return {200: {"model": whole, "description": description, "content": content}}


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
        for parameter in operation.get("parameters", ()):
            if parameter["name"] in _PARAMETERS:
                parameter.setdefault("description", _PARAMETERS[parameter["name"]])
        for summary, body in EXAMPLES.get(operation["operationId"], {}).items():
            content = operation["requestBody"]["content"][_JSON]
            content.setdefault("examples", {})[summary] = {"value": body}
        has_key = "security" in operation
        every = {400: True, 401: has_key, 421: True, 429: has_key, 500: True, 503: path not in ALWAYS_OPEN}
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
