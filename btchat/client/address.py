"""Which server is asked, and as whom."""

import hashlib
import ipaddress
import os
from dataclasses import dataclass, field

import httpx

from bt_model.errors import InvalidValueError

URL, KEY = "BTCHAT_URL", "BTCHAT_API_KEY"
DEFAULT_URL = "http://127.0.0.1:8000"
_CONNECT_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Address:
    """The root of a server without a slash at its end, and an API key or none."""

    url: str
    api_key: str | None = field(default=None, repr=False)

    @classmethod
    def of(cls, base_url: str | None, api_key: str | None) -> "Address":
        """Where nothing is given, BTCHAT_URL and BTCHAT_API_KEY; a `/v1` at the end may be there or not.

        Raises:
            InvalidValueError: no URL of a server, or a key that no header can hold.
        """
        given = base_url or os.environ.get(URL) or DEFAULT_URL
        try:
            url = httpx.URL(given)
        except httpx.InvalidURL as error:
            raise _not_a_url(given) from error
        if url.scheme not in ("http", "https") or not url.host or url.query or url.fragment:
            raise _not_a_url(given)
        key = (api_key or os.environ.get(KEY) or "").strip()
        if not key.isascii() or not key.isprintable():
            raise InvalidValueError("api_key has characters that a key cannot have", param="api_key")
        return cls(given.strip().rstrip("/").removesuffix("/v1"), key or None)

    @property
    def owner(self) -> str:
        """Tells servers and keys apart, without showing a key."""
        return f"{self.url} {hashlib.sha256((self.api_key or '').encode()).hexdigest()}"

    @property
    def is_local(self) -> bool:
        """Proxies of the environment are not for a server on this machine."""
        host = httpx.URL(self.url).host
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:
            return host == "localhost"

    def headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.api_key}"} if self.api_key else {}

    def timeouts(self, seconds: float) -> httpx.Timeout:
        """An answer may pause so long; a connection is there sooner."""
        return httpx.Timeout(seconds, connect=min(seconds, _CONNECT_SECONDS))


def _not_a_url(given: str) -> InvalidValueError:
    return InvalidValueError(
        f"the server's URL is {given[:80]!r}; allowed: http://HOST:PORT or https://HOST", param="url"
    )
