"""Who is let in: nobody while the server stops, and only who calls it by a name of its own. Pure ASGI."""

import ipaddress

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from server.problems import Problem
from server.settings import Settings

_ANY = ("*",)
REQUESTS = frozenset({"http", "websocket"})
"""The types of scopes in which a client asks for something."""
LIVE = frozenset({"/health/live", "/health", "/ping"})
"""Probes of the process alone."""
ALWAYS_OPEN = LIVE | {"/metrics"}
"""What is asked of a server that stops, or is full, as well."""


def allowed_hosts(settings: Settings) -> tuple[str, ...]:
    """The names that clients may call this server by.

    Whoever reaches a loopback address sits at this machine, and so does a page in a browser there, which any
    domain can point at that address. A page has no API key, but where none is asked for it would need none.
    """
    if settings.allowed_hosts is not None:
        return settings.allowed_hosts
    is_private = settings.api_keys_file is None and _is_loopback(settings.host)
    return ("localhost",) if is_private else _ANY


class Gate:
    """Refuses every request while there is a `refusal` in the state, and those for another host."""

    def __init__(self, app: ASGIApp, hosts: tuple[str, ...]) -> None:
        self._app = app
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        problem = self._problem(scope) if scope["type"] in REQUESTS else None
        await (problem.response() if problem else self._app)(scope, receive, send)

    def _problem(self, scope: Scope) -> Problem | None:
        refusal = scope.get("state", {}).get("refusal")
        if refusal is not None and scope["path"] not in ALWAYS_OPEN:
            return refusal
        name = Headers(scope=scope).get("host", "")
        host = name.rpartition(":")[0] if name.rpartition(":")[2].isdecimal() else name
        return None if self._is_allowed(host) else _misdirected(host, self._hosts)

    def _is_allowed(self, host: str) -> bool:
        if self._hosts == _ANY or host.lower() in self._hosts:
            return True
        return "localhost" in self._hosts and _is_loopback(host)


def _is_loopback(host: str) -> bool:
    try:
        return host.lower() == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _misdirected(host: str, hosts: tuple[str, ...]) -> Problem:
    text = f"the request is for host {host[:80]!r}; allowed: {', '.join(hosts)} (setting allowed_hosts)"
    return Problem(421, text, code="host_not_allowed", param="host", headers={"connection": "close"})
