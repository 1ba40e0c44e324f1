"""The key that comes with a request: in its header or, of a browser's WebSocket, as a subprotocol."""

import base64
import binascii

from starlette.datastructures import Headers
from starlette.types import Scope

SUBPROTOCOL = "btchat.live"
"""What a browser offers beside its key, and is answered with."""
KEY_PROTOCOL = "btchat.key."
"""Before a key in base64url without padding."""
_GROUP = 4


def authorization_of(scope: Scope) -> str:
    """The Authorization header, or what a page, which can set none, says in its place."""
    header = Headers(scope=scope).get("authorization", "")
    offered: list[str] = scope.get("subprotocols", [])
    coded = next((each for each in offered if each.startswith(KEY_PROTOCOL)), None)
    if header or coded is None:
        return header
    text = coded.removeprefix(KEY_PROTOCOL)
    try:
        key = base64.b64decode(text + "=" * (-len(text) % _GROUP), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return f"Bearer {text}"  # no key, and counted as a wrong one
    return f"Bearer {key.decode('utf-8', 'surrogateescape')}"
