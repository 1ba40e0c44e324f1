"""Error responses: exception class to status, and one form of body everywhere."""

import math
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, cast

from fastapi import Request
from fastapi.responses import JSONResponse
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.routing import Match

from bt_model.errors import (
    BtchatError,
    DecodeQueueFullError,
    DecodeTimeoutError,
    EngineError,
    InvalidValueError,
    PartlyDecodedError,
    PixelsForgottenError,
    UnknownNameError,
    UnsupportedMediaError,
    VideoError,
    VideoLimitError,
)
from server.log.request import note
from server.log.secrets import redacted

STATUSES: Mapping[type[BtchatError], int] = {
    UnsupportedMediaError: 415,
    VideoLimitError: 413,
    PartlyDecodedError: 503,
    VideoError: 422,
    PixelsForgottenError: 410,
    UnknownNameError: 404,
    InvalidValueError: 400,
    EngineError: 503,
    BtchatError: 500,
}
CODES: Mapping[int, tuple[str, ...]] = {
    400: (
        "invalid_json",
        "invalid_http",
        "invalid_value",
        "missing_required_parameter",
        "unknown_parameter",
        "unsupported_parameter",
        "idempotency_key_reused",
        "fingerprint_changed",
        "context_length_exceeded",
        "too_many_videos",
        "video_required",
        "url_fetching_disabled",
        "url_not_fetched",
        "previous_response_not_found",
        "item_not_found",
    ),
    401: ("invalid_api_key",),
    403: ("origin_not_allowed",),
    404: (
        "not_found",
        "model_not_found",
        "video_not_found",
        "video_deleted",
        "upload_not_found",
        "response_not_found",
        "file_not_found",
        "batch_not_found",
    ),
    405: ("method_not_allowed",),
    408: ("body_timeout", "header_timeout"),
    409: ("offset_mismatch", "file_in_use"),
    410: ("pixels_forgotten",),
    412: ("unsupported_protocol",),
    413: ("body_too_large", "video_too_large", "storage_quota"),
    415: ("unsupported_media",),
    416: ("range_not_satisfiable",),
    421: ("host_not_allowed",),
    422: (
        "undecodable_video",
        "truncated_video",
        "empty_file",
        "no_video_stream",
        "no_frames",
        "video_too_small",
        "decode_timeout",
    ),
    423: ("upload_busy",),
    429: ("rate_limited",),
    500: ("internal_error", "bad_checkpoint"),
    503: (
        "overloaded",
        "not_ready",
        "engine_restarted",
        "engine_error",
        "features_missing",
        "model_memory",
        "model_failed",
        "stopping",
        "storage_failed",
        "decode_timeout",
    ),
    504: ("timeout",),
    507: ("storage_full",),
}
"""Every code that a client may get, by status; the first is that of an error which has none of its own."""

OPENAI_PATHS = frozenset({"/v1/chat/completions", "/v1/responses"})
_FEW_STATUSES: Mapping[int, int] = {
    **dict.fromkeys((404, 408, 409, 410, 412, 422, 423), 400),
    421: 403,
}

_TYPES: Mapping[int, str] = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
_TAKES_LESS = (
    "fewer frames (sampling.num_frames) or a shorter window (sampling.start, sampling.end) take less; who "
    "runs the server can allow more (BTCHAT_DECODE_SECONDS, BTCHAT_DECODE_MOST_SECONDS)"
)
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
_SERVER_FAULT = 500
_LASTING = frozenset({"bad_checkpoint", "model_memory", "model_failed"})  # nobody but an operator mends them
_SHOWN_CHARACTERS = 80


class BusyError(EngineError):
    """The server is full; `retry_seconds` is for the Retry-After header."""

    code = "overloaded"

    def __init__(self, message: str, retry_seconds: float, **details: str) -> None:
        super().__init__(message, **details)
        self.retry_seconds = retry_seconds


class RateLimitError(BusyError):
    """One API key is at its cap; other keys are served."""

    code = "rate_limited"


class Problem(HTTPException):
    """An error response, with everything that its body and headers need."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(status, message, headers)
        self.code = code
        self.param = param

    def body(self) -> dict[str, Any]:
        """The error object that every route and every stream uses."""
        kind = "server_error" if self.status_code >= _SERVER_FAULT else "invalid_request_error"
        return {
            "error": {
                "message": redacted(self.detail),
                "type": _TYPES.get(self.status_code, kind),
                "param": self.param,
                "code": self.code,
            }
        }

    def response(self) -> JSONResponse:
        """The response to the request that is answered now, whose line in the log names the code."""
        note(code=self.code)
        return JSONResponse(self.body(), self.status_code, self.headers)


def status_on(path: str, status: int) -> int:
    """The status that a response has on this path.

    Where OpenAI's clients ask, a request that is at fault has one of the few statuses that OpenAI sends for
    it: gateways take 404 or 408 for a sick server, which they ask nothing more for a while, and swallow 422.
    """
    return _FEW_STATUSES.get(status, status) if path in OPENAI_PATHS else status


def problem_of(error: Exception) -> Problem:
    """The response for any exception; an unexpected one reveals no details."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, HTTPException):
        code = CODES.get(error.status_code, ("invalid_request",))[0]
        return Problem(error.status_code, error.detail, code=code, headers=error.headers)
    if isinstance(error, TimeoutError):
        return Problem(504, str(error) or "the request took too long", code="timeout")
    if isinstance(error, BtchatError):
        return _of_ours(error)
    return Problem(500, "internal error; the request id names it in the log", code="internal_error")


def _of_ours(error: BtchatError) -> Problem:
    headers: dict[str, str] = {}
    if error.code in _LASTING:
        headers["x-should-retry"] = "false"  # to OpenAI's clients, which else try again after any 5xx
    elif isinstance(error, EngineError | PartlyDecodedError):
        seconds = error.retry_seconds if isinstance(error, BusyError | DecodeQueueFullError) else 1.0
        headers["retry-after"] = str(max(math.ceil(seconds), 1))
    if isinstance(error, RateLimitError):
        status = int(HTTPStatus.TOO_MANY_REQUESTS)
    else:
        status = next(STATUSES[kind] for kind in type(error).__mro__ if kind in STATUSES)
    param = error.param or ("video" if isinstance(error, VideoError) else None)
    message = f"{error.message}; {_TAKES_LESS}" if isinstance(error, DecodeTimeoutError) else error.message
    return Problem(status, message, code=error.code, param=param, headers=headers)


def _of_routing(request: Request, error: HTTPException) -> Problem:
    problem = problem_of(error)
    where = f"{request.method} {request.url.path[:_SHOWN_CHARACTERS]}"
    if error.status_code == HTTPStatus.NOT_FOUND:
        problem.detail = f"no route {where}"
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        allowed = ", ".join(_methods(request))
        problem.detail = f"no route {where}; allowed: {allowed}"
        problem.headers = {"allow": allowed}
    return problem


def _methods(request: Request) -> list[str]:
    """Those of every route with this path; the error knows the methods of the first one."""
    routes = cast(Starlette, request.app).routes
    asked = ({**request.scope, "method": method} for method in METHODS)
    return [
        scope["method"] for scope in asked if any(route.matches(scope)[0] is Match.FULL for route in routes)
    ]


async def show_problem(request: Request, error: Exception) -> JSONResponse:
    """Exception handler of the application."""
    if isinstance(error, HTTPException) and not isinstance(error, Problem):
        return _of_routing(request, error).response()
    return problem_of(error).response()
