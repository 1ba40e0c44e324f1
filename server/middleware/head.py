"""HEAD wherever GET is: the same answer, of which the connection sends the headers alone. Pure ASGI."""

from typing import cast

from starlette.applications import Starlette
from starlette.routing import Match
from starlette.types import ASGIApp, Receive, Scope, Send


class HeadAsGet:
    """Asks for what HEAD asks about by GET, where no route has a HEAD of its own."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD" or _is_routed(scope):
            await self._app(scope, receive, send)
            return
        asked = {**scope, "method": "GET"}
        try:
            await self._app(asked, receive, send)
        finally:
            scope["route"] = asked.get("route")  # for who counts


def _is_routed(scope: Scope) -> bool:
    routes = cast(Starlette, scope["app"]).routes
    return any(route.matches(dict(scope))[0] is Match.FULL for route in routes)
