"""Pages of other origins that browsers let use this server: the rules for Starlette's CORSMiddleware."""

import re
from collections.abc import Sequence
from typing import Any

from bt_model.errors import require

_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
_EXPOSED = (
    "ETag",
    "Idempotent-Replayed",
    "Location",
    "Retry-After",
    "Server-Timing",
    "Tus-Resumable",
    "Upload-Expires",
    "Upload-Length",
    "Upload-Offset",
    "x-request-id",
    *(f"x-btchat-{what}" for what in ("dtype", "fingerprint", "shape", "warnings")),
    *(
        f"x-ratelimit-{part}-{what}"
        for part in ("limit", "remaining", "reset")
        for what in ("requests", "tokens")
    ),
)
_REMEMBERED_SECONDS = 600
_ORIGIN = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]*)://([a-z0-9._-]+|\[[0-9a-f:.]+\])(:(?P<port>[1-9]\d{0,4}))?"
)
_OWN_PORTS = (("http", "80"), ("https", "443"))


def cors_rules(origins: Sequence[str]) -> dict[str, Any]:
    """Exact origins only. Cookies are never allowed: a key is a header that the page itself has to know.

    Raises:
        InvalidValueError: what no browser sends as an origin: a wildcard, a path, a scheme's own port.
    """
    for origin in origins:
        match = _ORIGIN.fullmatch(origin)
        is_exact = match is not None and (match["scheme"], match["port"]) not in _OWN_PORTS
        require(is_exact, "cors_origins", origin, "exact origins such as https://pages.example")
    return {
        "allow_origins": origins,
        "allow_methods": _METHODS,
        "allow_headers": ("*",),  # what SDKs send of their own; none of it lets anybody in but a key
        "expose_headers": _EXPOSED,
        "max_age": _REMEMBERED_SECONDS,
    }
