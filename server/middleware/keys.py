"""API keys, checked on the headers before a body is read. Pure ASGI."""

import hmac
from collections.abc import Sequence

from starlette.types import ASGIApp, Receive, Scope, Send

from server.admission import PUBLIC
from server.keys.file import ApiKey, digest_of
from server.keys.offered import authorization_of
from server.keys.rates import WrongKeys
from server.middleware.gate import LIVE, REQUESTS
from server.problems import Problem, RateLimitError, problem_of

PAGES = frozenset({"/docs", "/redoc"})
# probes have no key; the pages of the documentation hold nothing secret, and ask for a key to try a route
OPEN_PATHS = PAGES | LIVE | {"/", "/health/ready", "/openapi.json"}
PAGE_FILES = "/static-offline-docs"
_READING = frozenset({"GET", "HEAD"})


class KeyCheck:
    """Bearer keys, checked on the headers alone, so that an unauthorised caller's body is never read.

    Puts `tenant` into the request's state and, where the key has a name, `key_name`. Wrong keys are counted
    by address; a right one is never refused for them, as behind a gateway all clients have one address.
    """

    def __init__(self, app: ASGIApp, keys: Sequence[ApiKey], wrong_per_minute: int) -> None:
        self._app = app
        self._keys = keys
        self._wrong = WrongKeys(wrong_per_minute)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in REQUESTS and self._keys:
            header = authorization_of(scope)
            key = self._find(header)
            if key is None and not is_open(scope):
                await self._refusal(scope, header).response()(scope, receive, send)
                return
            state = scope.setdefault("state", {})
            state["tenant"] = key.tenant if key else PUBLIC
            state["key_name"] = key.name if key else None
        elif scope["type"] in REQUESTS:
            scope.setdefault("state", {}).update(tenant=PUBLIC, key_name=None)
        await self._app(scope, receive, send)

    def _find(self, header: str) -> ApiKey | None:
        scheme, _, key = header.partition(" ")
        digest = digest_of(key.strip())
        # no early exit: timing must not reveal a partial match
        matches = [each for each in self._keys if hmac.compare_digest(digest, each.digest)]
        return matches[0] if matches and scheme.lower() == "bearer" else None

    def _refusal(self, scope: Scope, header: str) -> Problem:
        if header and (seconds := self._wrong.count((scope.get("client") or ("unknown",))[0])):
            refused = problem_of(RateLimitError("too many wrong API keys came from this address", seconds))
            refused.headers = {**(refused.headers or {}), "connection": "close"}
            return refused
        headers = {"www-authenticate": "Bearer", "connection": "close"}
        text = "this server needs an API key: Authorization: Bearer KEY"
        return Problem(401, text, code="invalid_api_key", headers=headers)


def is_open(scope: Scope) -> bool:
    """Whether a request needs no key: it only reads what is open."""
    path: str = scope["path"]
    return scope.get("method") in _READING and (path in OPEN_PATHS or path.startswith(f"{PAGE_FILES}/"))
