"""What a client does, as values: a plan says what is next, and is told what came of it.

A plan is a generator. It knows nothing of threads and event loops, so that both clients carry out the same.
"""

from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeAlias, TypeVar, cast

import httpx

from btchat.client.errors import BtchatConnectionError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Blocks:
    """The body of an upload, read when it is sent, and again when it is sent again."""

    num_bytes: int
    read: Callable[[], Iterator[bytes]]
    on_sent: Callable[[int], object] = field(default=lambda _num_bytes: None)


@dataclass(frozen=True, slots=True)
class Call:
    """One HTTP request. A call that `can_repeat` does no harm when it is sent twice."""

    method: str
    path: str
    query: Mapping[str, str | int] = field(default_factory=dict[str, str | int])
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    json: Mapping[str, Any] | None = None
    content: Blocks | None = None
    is_stream: bool = False
    can_repeat: bool = True

    def arguments(self) -> dict[str, Any]:
        """Of httpx's `build_request`, but for the content."""
        length = {} if self.content is None else {"content-length": str(self.content.num_bytes)}
        return {
            "method": self.method,
            "url": self.path,
            "params": dict(self.query),
            "headers": {**self.headers, **length},
            "json": self.json,
        }


@dataclass(frozen=True, slots=True)
class Delay:
    """A wait."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Blocking:
    """Work that an event loop leaves to a thread."""

    run: Callable[[], object]


@dataclass(frozen=True, slots=True)
class Returned(Generic[T]):
    """A plan's result."""

    value: T


NextStep: TypeAlias = Call | Delay | Blocking
Plan: TypeAlias = Generator[NextStep, object, T]


def send(call: Call) -> Plan[httpx.Response]:
    """The response, whatever its status; its body is read, unless it streams and is a success.

    Raises:
        BtchatConnectionError: there is none.
    """
    return cast(httpx.Response, (yield call))


def wait(seconds: float) -> Plan[None]:
    yield Delay(seconds)


def blocking(run: Callable[[], T]) -> Plan[T]:
    return cast(T, (yield Blocking(run)))


def advance(plan: Plan[T], outcome: object = None) -> NextStep | Returned[T]:
    """Tell a plan what came of its last step; its next one, or its result."""
    try:
        if isinstance(outcome, BtchatConnectionError):
            return plan.throw(outcome)
        return plan.send(outcome)
    except StopIteration as end:
        return Returned(cast(T, end.value))
