"""One request, sent again where that may help: after a broken connection, or as its refusal says."""

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from itertools import count
from uuid import uuid4

import httpx
from pydantic import ValidationError

from btchat.client.errors import BtchatAPIError, BtchatConnectionError, BtchatResponseError
from btchat.client.plans import Call, Plan, T, send, wait

_PASSING = frozenset({408, 429, 500, 502, 503, 504})
_FIRST_SECONDS, _MOST_SECONDS = 0.5, 8.0


@dataclass(frozen=True, slots=True)
class Retries:
    """How often a request is sent again, and the longest `Retry-After` in seconds that is waited for."""

    most: int = 2
    most_seconds: float = 60.0

    def sent(self, call: Call) -> Plan[httpx.Response]:
        """A success. All attempts have one key, so that none does again what another has done.

        Raises:
            BtchatAPIError: the server refused.
            BtchatConnectionError: there was no answer.
        """
        call = _named(call)
        for attempt in count():
            try:
                response = yield from send(call)
            except BtchatConnectionError as error:
                if attempt >= self.most or not (call.can_repeat or error.is_unsent):
                    raise
                seconds = backoff(attempt)
            else:
                if response.is_success:
                    return response
                asked = retry_after(response)
                seconds = backoff(attempt) if asked is None else asked
                if attempt >= self.most or seconds > self.most_seconds or not may_pass(response):
                    raise BtchatAPIError.of(response, asked)
            yield from wait(seconds)
        raise AssertionError("count() does not end")

    def read(self, call: Call, kind: Callable[[bytes], T]) -> Plan[T]:
        """A success, as an object. Raises as `sent`, and BtchatResponseError."""
        response = yield from self.sent(call)
        return parsed(response, kind)


def _named(call: Call) -> Call:
    """A POST with a key by which the server knows it again; what else is sent twice does no harm."""
    if call.method != "POST":
        return call
    return replace(call, headers={"idempotency-key": uuid4().hex, **call.headers})


def parsed(response: httpx.Response, kind: Callable[[bytes], T]) -> T:
    """Raises BtchatResponseError: it is not what a btchat server sends."""
    try:
        return kind(response.content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "body"
        text = (
            f"{response.request.method} {response.request.url.path} gave what this client cannot read "
            f"({where}: {first['msg']}); is it a btchat server?"
        )
        raise BtchatResponseError(text) from error


def may_pass(response: httpx.Response) -> bool:
    """Whether the same request may be answered later: as the server says, or by its status."""
    said = response.headers.get("x-should-retry", "").lower()
    return said == "true" if said in ("true", "false") else response.status_code in _PASSING


def retry_after(response: httpx.Response) -> float | None:
    """Seconds of `Retry-After`, which may be a date."""
    value = response.headers.get("retry-after", "")
    try:
        return max(float(value), 0.0)
    except ValueError:
        pass
    try:
        date = parsedate_to_datetime(value)
    except ValueError:
        return None
    return max((date.astimezone(UTC) - datetime.now(UTC)).total_seconds(), 0.0)


def backoff(attempt: int) -> float:
    """Seconds before the next attempt, twice as long each time; not the same for all who wait."""
    return min(_FIRST_SECONDS * 2.0**attempt, _MOST_SECONDS) * (1 - random.random() / 4)
