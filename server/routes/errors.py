"""The documentation of the errors that each route sends."""

from http import HTTPStatus
from typing import Any

from server.bodies.errors import ErrorObject
from server.problems import CODES, status_on

_SECONDS = {"description": "seconds to wait", "schema": {"type": "integer", "minimum": 1}}
_HEADERS = {
    HTTPStatus.UNAUTHORIZED: {"WWW-Authenticate": {"schema": {"type": "string"}}},
    HTTPStatus.TOO_MANY_REQUESTS: {"Retry-After": _SECONDS},
    HTTPStatus.SERVICE_UNAVAILABLE: {"Retry-After": _SECONDS},
}
_CONTENT = {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorObject"}}}


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route beside its success, but for those that every route has.

    Raises:
        KeyError: a status without codes in `server.problems.CODES`.
    """
    return {status: {"model": ErrorObject, **_facts(status)} for status in statuses}


def error_response(status: int) -> dict[str, Any]:
    """The same of one status, in the document's own words."""
    return {"content": _CONTENT, **_facts(status)}


def rename_errors(path: str, responses: dict[str, Any]) -> None:
    """Errors under the statuses that they have on this path."""
    codes: dict[int, tuple[str, ...]] = {}
    for status in sorted(int(each) for each in responses if int(each) >= HTTPStatus.BAD_REQUEST):
        sent = status_on(path, status)
        codes[sent] = codes.get(sent, ()) + CODES[status]
        if sent != status:
            del responses[str(status)]
            responses[str(sent)] = {"content": _CONTENT, **_facts(sent, codes[sent])}


def _facts(status: int, codes: tuple[str, ...] | None = None) -> dict[str, Any]:
    description = f"{HTTPStatus(status).phrase}: {', '.join(codes or CODES[status])}"
    return {"description": description, "headers": _HEADERS.get(HTTPStatus(status), {})}
