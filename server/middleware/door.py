"""The door: what costs is let in by its headers, before a byte of its body is read. Pure ASGI.

Stands inside the check of keys, which says whose request it is, and outside everything that reads a body.
"""

from collections.abc import Callable
from contextlib import ExitStack
from typing import cast

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.admission import Admission, HeldBytes
from server.deps import LifespanState
from server.middleware.costs import RequestCosts
from server.middleware.keys import is_open
from server.middleware.turns import Turns
from server.problems import BusyError, problem_of

HELD = "held_bytes"
"""Where a request's `HeldBytes` stand in the state of its scope: who passes bytes on may release them."""

_COSTLY = frozenset({"POST", "PUT", "PATCH"})  # the others look something up, or delete


class Door:
    """Lets requests in, or refuses them at once with the time after which to come back.

    The body of a request counts as held in memory, with the length that it declares or, without one, as it
    comes; of a path whose route passes bytes on, as much as `RequestCosts` says.
    """

    def __init__(self, app: ASGIApp, costs: RequestCosts) -> None:
        self._app = app
        self._costs = costs
        self._turns = Turns()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or is_open(scope):
            await self._app(scope, receive, send)
            return
        admission = cast(LifespanState, scope["state"])["services"].admission
        tenant: str = scope["state"]["tenant"]
        is_costly = scope["method"] in _COSTLY
        with ExitStack() as stack:
            told = _telling(send, admission, tenant, stack.close) if is_costly else send
            try:
                if is_costly:
                    receive = self._admit(scope, receive, admission, stack)
                else:
                    stack.enter_context(admission.look_up(tenant))
            except BusyError as error:
                await problem_of(error).response()(scope, receive, told)
                return
            if is_costly:
                await self._turns.wait()  # refusals wait for no crowd
            await self._app(scope, receive, told)

    def _admit(self, scope: Scope, receive: Receive, admission: Admission, stack: ExitStack) -> Receive:
        """Enter, until the stack is closed; the `receive` that counts what is held. Raises BusyError."""
        cost, tenant = self._costs.of(scope["path"]), scope["state"]["tenant"]
        with ExitStack() as entering:
            held = entering.enter_context(admission.enter(tenant))
            body = _hold(scope, receive, held, cost.held_bytes)
            if cost.spends_tokens:
                admission.rates.require_tokens(tenant)
            admission.rates.count_request(tenant)
            scope["state"][HELD] = held
            stack.push(entering.pop_all())
        return body


def _hold(scope: Scope, receive: Receive, held: HeldBytes, most: int | None) -> Receive:
    """Count a body: by what is declared, or through the `receive` that is returned. Raises BusyError."""
    headers = Headers(scope=scope)
    if most is None and "transfer-encoding" in headers:
        return _counted(receive, held)
    num_bytes = int(headers.get("content-length", "0"))
    if most is not None:
        num_bytes = most if "transfer-encoding" in headers else min(num_bytes, most)
    held.add(num_bytes)
    return receive


def _telling(send: Send, admission: Admission, tenant: str, leave: Callable[[], None]) -> Send:
    """A `send` that tells, in OpenAI's headers, what the key has left; with the last message, it leaves."""

    async def told(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for what, (limit, remaining, seconds) in admission.left(tenant).items():
                headers[f"x-ratelimit-limit-{what}"] = str(limit)
                headers[f"x-ratelimit-remaining-{what}"] = str(remaining)
                headers[f"x-ratelimit-reset-{what}"] = f"{seconds:.1f}s"
        elif not message.get("more_body"):
            leave()  # whoever has the answer may ask again; what is left of a body may still be read
        await send(message)

    return told


def _counted(receive: Receive, held: HeldBytes) -> Receive:
    async def counted() -> Message:
        message = await receive()
        held.add(len(message.get("body", b"")))
        return message

    return counted
