"""API keys, checked on the headers before a body is read. Pure ASGI."""

import hashlib
import hmac
from pathlib import Path

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from bt_model.errors import InvalidValueError, explain
from server.admission import PUBLIC
from server.problems import Problem

PAGES = frozenset({"/docs", "/redoc"})
# probes have no key; the pages of the documentation hold nothing secret, and ask for a key to try a route
OPEN_PATHS = PAGES | {"/", "/health/live", "/health/ready", "/openapi.json"}
PAGE_FILES = "/static-offline-docs"
_MIN_KEY_CHARACTERS = 8


def load_keys(path: Path) -> tuple[bytes, ...]:
    """Digests of the keys in a file, one key a line; lines that start with # are comments.

    Raises:
        InvalidValueError: a file that cannot be read, holds no key, or a key that is too short.
    """
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError) as error:
        raise InvalidValueError(f"cannot read API keys: {explain(error)}", param="api_keys_file") from error
    keys = [line for line in lines if line and not line.startswith("#")]
    if not keys or min(map(len, keys)) < _MIN_KEY_CHARACTERS:
        message = f"{path} needs keys of {_MIN_KEY_CHARACTERS} characters or more, one a line"
        raise InvalidValueError(message, param="api_keys_file")
    return tuple(hashlib.sha256(key.encode()).digest() for key in keys)


class KeyCheck:
    """Bearer keys, checked on the headers alone, so that an unauthorised caller's body is never read."""

    def __init__(self, app: ASGIApp, digests: tuple[bytes, ...]) -> None:
        self._app = app
        self._digests = digests

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            tenant = self._tenant(Headers(scope=scope).get("authorization", ""))
            if tenant is None and not _is_open(scope["path"]):
                await _unauthorised().response()(scope, receive, send)
                return
            scope.setdefault("state", {})["tenant"] = tenant or PUBLIC
        await self._app(scope, receive, send)

    def _tenant(self, header: str) -> str | None:
        if not self._digests:
            return PUBLIC
        scheme, _, key = header.partition(" ")
        digest = hashlib.sha256(key.strip().encode("utf-8", "surrogateescape")).digest()
        # no early exit: timing must not reveal a partial match
        matches = [hmac.compare_digest(digest, known) for known in self._digests]
        return digest.hex() if scheme.lower() == "bearer" and any(matches) else None


def _is_open(path: str) -> bool:
    return path in OPEN_PATHS or path.startswith(f"{PAGE_FILES}/")


def _unauthorised() -> Problem:
    headers = {"www-authenticate": "Bearer", "connection": "close"}
    text = "this server needs an API key: Authorization: Bearer KEY"
    return Problem(401, text, code="invalid_api_key", headers=headers)
