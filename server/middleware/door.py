"""The door: what costs is let in by its headers, before a byte of its body is read. Pure ASGI.

Stands inside the check of keys, which says whose request it is, and outside everything that reads a body.
"""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import cast

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.admission import Admission, HeldBytes
from server.deps import LifespanState
from server.problems import BusyError, problem_of

HELD = "held_bytes"
"""Where a request's `HeldBytes` stand in the state of its scope: who passes bytes on may release them."""

HELD_BYTES: Mapping[str, int] = {
    "/v1/video/uploads": 2 * 1024 * 1024,  # and of everything below it
    "/v1/chat/completions": 4 * 1024 * 1024,  # without its videos, which go to disk as they come
}
"""What routes that pass a body on hold of it at most."""

_QUESTIONS = frozenset({"/v1/video/chat", "/v1/chat/completions"})  # what spends tokens
_COSTLY = frozenset({"POST", "PUT", "PATCH"})  # the others look something up, or delete


class Door:
    """Lets requests that cost in, or refuses them at once with the time after which to come back.

    The body of a request counts as held in memory, with the length that it declares or, without one, as it
    comes; of a path in `HELD_BYTES` as much as stands there, as its route passes bytes on.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._turn = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] not in _COSTLY:
            await self._app(scope, receive, send)
            return
        admission = cast(LifespanState, scope["state"])["services"].admission
        tenant: str = scope["state"]["tenant"]
        with ExitStack() as stack:
            told = _telling(send, admission, tenant, stack.close)
            try:
                held = stack.enter_context(admission.enter(tenant))
                body = self._hold(scope, receive, held)
                if scope["path"] in _QUESTIONS:
                    admission.rates.require_tokens(tenant)
                admission.rates.count_request(tenant)
            except BusyError as error:
                await problem_of(error).response()(scope, receive, told)
                return
            scope["state"][HELD] = held
            async with self._turn:
                await asyncio.sleep(0)  # one in each round of the event loop: refusals wait for no crowd
            await self._app(scope, body, told)

    @staticmethod
    def _hold(scope: Scope, receive: Receive, held: HeldBytes) -> Receive:
        """Count a body: by what is declared, or through the `receive` that is returned. Raises BusyError."""
        most, headers = _most_held(scope["path"]), Headers(scope=scope)
        if most is None and "transfer-encoding" in headers:
            return _counted(receive, held)
        declared = headers.get("content-length", "0")
        num_bytes = int(declared) if declared.isdecimal() else 0
        if most is not None:
            num_bytes = most if "transfer-encoding" in headers else min(num_bytes, most)
        if num_bytes <= held.most:  # longer ones are beyond the bounds on bodies, which refuse them
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


def _most_held(path: str) -> int | None:
    """None where the whole body is held."""
    found = [most for start, most in HELD_BYTES.items() if path == start or path.startswith(f"{start}/")]
    return found[0] if found else None


def _counted(receive: Receive, held: HeldBytes) -> Receive:
    async def counted() -> Message:
        message = await receive()
        held.add(len(message.get("body", b"")))
        return message

    return counted
