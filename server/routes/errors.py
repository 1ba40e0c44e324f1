"""The error object, and the documentation of the errors that each route sends."""

from http import HTTPStatus
from typing import Any, Literal

from fastapi import FastAPI
from pydantic import BaseModel, Field

from server.middleware.gate import ALWAYS_OPEN
from server.problems import CODES

Kind = Literal[
    "invalid_request_error", "authentication_error", "permission_error", "rate_limit_error", "server_error"
]

_SECONDS = {"description": "seconds to wait", "schema": {"type": "integer", "minimum": 1}}
_HEADERS = {
    HTTPStatus.UNAUTHORIZED: {"WWW-Authenticate": {"schema": {"type": "string"}}},
    HTTPStatus.TOO_MANY_REQUESTS: {"Retry-After": _SECONDS},
    HTTPStatus.SERVICE_UNAVAILABLE: {"Retry-After": _SECONDS},
}
_CONTENT = {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorObject"}}}


class ErrorDetail(BaseModel):
    """What is wrong, in words and as a code, and with which field."""

    message: str
    type: Kind
    param: str | None = Field(description="path of the field, such as messages[0].content")
    code: str


class ErrorObject(BaseModel):
    """The body of every response that is no success."""

    error: ErrorDetail


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route beside its success, but for those that every route has.

    Raises:
        KeyError: a status without codes in `server.problems.CODES`.
    """
    return {status: {"model": ErrorObject, **_facts(status)} for status in statuses}


def document_errors(app: FastAPI) -> None:
    """Let an application's document hold the errors that its routes send, and no other."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            _complete(generate())
        return generate()

    app.openapi = openapi


def _complete(document: dict[str, Any]) -> None:
    for path, operation in (
        (path, each) for path, item in document["paths"].items() for each in item.values()
    ):
        responses: dict[str, Any] = operation["responses"]
        # FastAPI's own, for every route with a parameter: here such an error is 400, in our form
        if "HTTPValidationError" in str(responses.get("422")):
            del responses["422"]
        has_key = "security" in operation
        every = {401: has_key, 421: True, 429: has_key, 500: True, 503: path not in ALWAYS_OPEN}
        for status in (status for status, is_sent in every.items() if is_sent):
            responses[str(status)] = {"content": _CONTENT, **_facts(status)}
    for name in ("HTTPValidationError", "ValidationError"):
        document["components"]["schemas"].pop(name, None)


def _facts(status: int) -> dict[str, Any]:
    description = f"{HTTPStatus(status).phrase}: {', '.join(CODES[status])}"
    return {"description": description, "headers": _HEADERS.get(HTTPStatus(status), {})}
