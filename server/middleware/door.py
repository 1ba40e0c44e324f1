"""The door: what costs is let in by its headers, before a byte of its body is read. Pure ASGI.

Stands inside the check of keys, which says whose request it is, and outside everything that reads a body.
"""

from collections.abc import Mapping
from contextlib import ExitStack
from typing import cast

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.admission import HeldBytes
from server.deps import LifespanState
from server.problems import BusyError, problem_of

HELD = "held_bytes"
"""Where a request's `HeldBytes` stand in the state of its scope: who passes bytes on may release them."""

HELD_BYTES: Mapping[str, int] = {"/v1/video/uploads": 2 * 1024 * 1024}
"""What routes that pass a body on hold of it at most."""

_COSTLY = frozenset({"POST", "PUT", "PATCH"})  # the others look something up, or delete


class Door:
    """Lets requests that cost in, or refuses them at once with the time after which to come back.

    The body of a request counts as held in memory, with the length that it declares or, without one, as it
    comes; of a path in `HELD_BYTES` as much as stands there, as its route passes bytes on.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] not in _COSTLY:
            await self._app(scope, receive, send)
            return
        admission = cast(LifespanState, scope["state"])["services"].admission
        with ExitStack() as stack:
            try:
                held = stack.enter_context(admission.enter(scope["state"]["tenant"]))
                body = self._hold(scope, receive, held)
            except BusyError as error:
                await problem_of(error).response()(scope, receive, send)
                return
            scope["state"][HELD] = held
            await self._app(scope, body, send)

    @staticmethod
    def _hold(scope: Scope, receive: Receive, held: HeldBytes) -> Receive:
        """Count a body: by what is declared, or through the `receive` that is returned. Raises BusyError."""
        most, headers = HELD_BYTES.get(scope["path"]), Headers(scope=scope)
        if most is None and "transfer-encoding" in headers:
            return _counted(receive, held)
        declared = headers.get("content-length", "0")
        num_bytes = int(declared) if declared.isdecimal() else 0
        if most is not None:
            num_bytes = most if "transfer-encoding" in headers else min(num_bytes, most)
        if num_bytes <= held.most:  # longer ones are beyond the bounds on bodies, which refuse them
            held.add(num_bytes)
        return receive


def _counted(receive: Receive, held: HeldBytes) -> Receive:
    async def counted() -> Message:
        message = await receive()
        held.add(len(message.get("body", b"")))
        return message

    return counted
