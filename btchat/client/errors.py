"""What can go wrong between a client and its server.

BtchatError
├── BtchatAPIError          the server refused, or an answer broke: status, code, param, message, request_id
├── BtchatConnectionError   the server cannot be reached, or the connection broke
└── BtchatResponseError     what came is no answer of a btchat server
"""

import json
from typing import Any, cast

import httpx

from bt_model.errors import BtchatError

_SHOWN = 200  # characters of a body that is not ours, such as a gateway's page


class BtchatAPIError(BtchatError):
    """An error object of the server; `status` is 200 where an answer broke after it had begun."""

    def __init__(
        self,
        message: str,
        *,
        status: int,
        code: str | None = None,
        param: str | None = None,
        request_id: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message, code=code or "unknown", param=param)
        self.status = status
        self.request_id = request_id
        self.retry_after = retry_after

    @classmethod
    def of(cls, response: httpx.Response, retry_after: float | None = None) -> "BtchatAPIError":
        """Of a response that was read."""
        error = error_object(response)
        text = str(error.get("message") or f"HTTP status {response.status_code}: {response.text[:_SHOWN]}")
        return cls(
            text,
            status=response.status_code,
            code=error.get("code"),
            param=error.get("param"),
            request_id=response.headers.get("x-request-id"),
            retry_after=retry_after,
        )


class BtchatConnectionError(BtchatError):
    """No answer; `is_unsent` where the server has seen nothing of the request."""

    code = "connection_failed"

    def __init__(self, message: str, *, is_unsent: bool = False) -> None:
        super().__init__(message)
        self.is_unsent = is_unsent

    @classmethod
    def of(cls, error: httpx.TransportError, url: str) -> "BtchatConnectionError":
        """What happened, and what to do about it."""
        if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
            text = (
                f"no server answers at {url} ({error or 'no answer in time'}); start one with "
                "`btchat serve`, or name another one (--url, BTCHAT_URL, base_url)"
            )
            return cls(text, is_unsent=True)
        if isinstance(error, httpx.TimeoutException):
            return cls(f"{url} did not answer in time; try again, or allow more (timeout)")
        return cls(f"the connection to {url} broke ({error or type(error).__name__}); try again")


class BtchatResponseError(BtchatError):
    """A success that cannot be read, such as a page of something else than btchat."""

    code = "unreadable_response"


def error_object(response: httpx.Response) -> dict[str, Any]:
    """The error in a body; empty where it has none, as an answer to HEAD, or is not ours."""
    try:
        body = response.json()
    except (json.JSONDecodeError, UnicodeDecodeError):
        return {}
    found = cast(dict[str, Any], body).get("error") if isinstance(body, dict) else None
    return cast(dict[str, Any], found) if isinstance(found, dict) else {}
