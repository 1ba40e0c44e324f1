"""The log: where lines go, and one for every request."""

import logging
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from starlette.types import Scope

log = logging.getLogger(__name__)

_LONGEST_PATH = 200
_PROBES = frozenset({"/health/live", "/health/ready", "/metrics"})  # asked every few seconds


def logging_config(level: str) -> dict[str, Any]:
    """For `logging.config.dictConfig`: our lines and uvicorn's, from this level on, to the standard error."""
    ours = {"level": level.upper(), "handlers": ["stderr"]}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(name)s: %(message)s"}},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
        "loggers": dict.fromkeys(("server", "bt_model", "uvicorn"), ours),
    }


def log_request(scope: Scope, request_id: str, status: int, seconds: float) -> None:
    """Method, path, status (0: the client left before it), time, request id, client.

    The query and the headers, which may hold secrets, are left out.
    """
    is_probe = scope["path"] in _PROBES and status == HTTPStatus.OK
    path = quote(scope["path"])[:_LONGEST_PATH]  # nothing in it can look like another line
    client = scope.get("client")
    log.log(
        logging.DEBUG if is_probe else logging.INFO,
        "%s %s %d in %.3f s, request %s from %s",
        scope["method"], path, status, seconds, request_id, client[0] if client else "unknown",
    )  # fmt: skip
