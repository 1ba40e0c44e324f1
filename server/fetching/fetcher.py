"""The fetcher: one GET of a public https host, followed through redirects, within limits of size and time.

A name is resolved once; the address that was looked at is the one that is dialled, and the name is what its
certificate must be of. Nothing is kept between two fetches, and no variable of the environment names a proxy.
"""

import asyncio
import logging
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from http import HTTPStatus
from typing import cast

import httpcore

from bt_model.errors import InvalidValueError, explain
from server.fetching.addresses import is_public
from server.fetching.target import ALLOWED, Target
from server.problems import Problem
from server.settings import Settings

log = logging.getLogger(__name__)

Resolve = Callable[[str, str], Awaitable[Sequence[str]]]
"""The IP addresses of a name, which this tenant asks for. Raises as `Lookups`."""

_PORT = 443
_MAX_REDIRECTS = 3
_REDIRECTS = (301, 302, 303, 307, 308)
_HEADERS = (
    ("User-Agent", "btchat"),
    ("Accept", "*/*"),
    ("Accept-Encoding", "identity"),
    ("Connection", "close"),
)
_CONNECT_SECONDS = 5.0
_TIMEOUTS = {"connect": _CONNECT_SECONDS, "read": 10.0, "write": 10.0}
_FAULTS = (OSError, httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException)


class _NotFetchedError(Exception):
    """Why nothing was fetched: for the log alone, since it tells who is where in our network."""


class Fetcher:
    """Fetches where the settings allow it; holds no state of any fetch."""

    def __init__(
        self,
        settings: Settings,
        is_isolated: Callable[[], bool],
        resolve: Resolve,
        backend: httpcore.AsyncNetworkBackend | None = None,
    ) -> None:
        """A fetcher of these settings.

        Args:
            settings: those of the server.
            is_isolated: whether what is fetched is decoded in a full sandbox.
            resolve: finds the addresses of names.
            backend: dials; without one, the event loop.

        Raises:
            InvalidValueError: a file of certificates that cannot be used.
        """
        self._hosts = settings.fetch_hosts
        self._seconds = settings.fetch_seconds
        self._max_bytes = settings.max_upload_bytes
        self._is_isolated = is_isolated
        self._resolve = resolve
        self._backend = backend
        self._tls = _tls(settings) if settings.fetch_urls else None

    async def content(self, url: str, param: str, tenant: str) -> AsyncGenerator[bytes]:
        """The bytes behind a URL, as they come; `param` is the field with the URL. To be closed by who asks.

        Raises:
            BusyError: too many names of hosts are being looked up, of all keys or of this one.
            InvalidValueError: fetching is off here, this URL is none, or nothing came, whatever the reason.
            Problem: more bytes than an upload may have.
        """
        target = self._admitted(url, param)
        num_bytes = 0
        try:
            async with self._answered(target, tenant) as (response, deadline):
                declared = int(_header(response, b"content-length") or 0)
                chunks = cast(AsyncGenerator[bytes], response.aiter_stream())
                async with aclosing(chunks):
                    while (chunk := await _next(chunks, deadline)) is not None:
                        num_bytes += len(chunk)
                        if max(num_bytes, declared) > self._max_bytes:
                            raise _too_large(param, self._max_bytes)
                        yield chunk
        except (_NotFetchedError, *_FAULTS) as error:
            log.debug("nothing was fetched from %s: %s", target.host, f"{type(error).__name__} {error}")
            text = (
                f"{param} was not fetched: its host is not public, is not reached, or sends no file within "
                f"{self._seconds:g} seconds; send the file itself to POST /v1/video/uploads"
            )
            raise InvalidValueError(text, code="url_not_fetched", param=param) from error

    def _admitted(self, url: str, param: str) -> Target:
        off = ""
        if self._tls is None:
            off = "URL fetching is not enabled here"
        elif not self._is_isolated():
            off = "URLs are not fetched where videos are decoded in a reduced sandbox (/version says why)"
        if off:
            text = f"{param} is a remote URL, and {off}; allowed: an upload, or a data: URL of a video"
            raise InvalidValueError(text, code="url_fetching_disabled", param=param)
        target = Target.read(url)
        if target is None:  # it is not shown: it may hold a password
            raise InvalidValueError(f"{param} is not a URL that is fetched; allowed: {ALLOWED}", param=param)
        if not self._is_allowed(target.host):
            hosts = ", ".join(self._hosts or ())
            text = f"{param} names the host {target.host[:80]!r}; allowed: {hosts}"
            raise InvalidValueError(text, param=param)
        return target

    def _is_allowed(self, host: str) -> bool:
        return self._hosts is None or any(_is_named(host, name.lower()) for name in self._hosts)

    @asynccontextmanager
    async def _answered(self, target: Target, tenant: str) -> AsyncGenerator[tuple[httpcore.Response, float]]:
        """The answer at the end of the redirects, each looked at like the first; and its deadline."""
        deadline = asyncio.get_running_loop().time() + self._seconds
        for _ in range(1 + _MAX_REDIRECTS):
            async with AsyncExitStack() as hop:
                async with asyncio.timeout_at(deadline):
                    response = await self._response(target, tenant, hop)
                if response.status not in _REDIRECTS:
                    _check(response)
                    yield response, deadline
                    return
            following = target.follow(_header(response, b"location"))
            if following is None or not self._is_allowed(following.host):
                raise _NotFetchedError("a redirect to what is not fetched")
            target = following
        raise _NotFetchedError(f"more than {_MAX_REDIRECTS} redirects")

    async def _response(self, target: Target, tenant: str, hop: AsyncExitStack) -> httpcore.Response:
        """The head of an answer, over a connection of its own to an address that was looked at."""
        async with asyncio.timeout(_CONNECT_SECONDS):
            addresses = await self._resolve(target.host, tenant)
        if not addresses or not all(map(is_public, addresses)):
            raise _NotFetchedError(f"its addresses are {', '.join(addresses) or 'none'}")
        url = httpcore.URL(scheme="https", host=addresses[0], port=_PORT, target=target.path + target.query)
        connection = httpcore.AsyncHTTPConnection(url.origin, self._tls, network_backend=self._backend)
        await hop.enter_async_context(connection)
        headers = [("Host", target.host), *_HEADERS]
        extensions = {"sni_hostname": target.host, "timeout": _TIMEOUTS}
        asked = connection.stream("GET", url, headers=headers, extensions=extensions)
        return await hop.enter_async_context(asked)


async def _next(chunks: AsyncGenerator[bytes], deadline: float) -> bytes | None:
    """The next bytes, in time. That is told here, since a chunk's way to the disk is not the host's time."""
    async with asyncio.timeout_at(deadline):
        return await anext(chunks, None)


def _too_large(param: str, max_bytes: int) -> Problem:
    text = f"the file of {param} is too large; at most {max_bytes} bytes are allowed"
    return Problem(413, text, code="body_too_large", param=param)


def _check(response: httpcore.Response) -> None:
    if response.status != HTTPStatus.OK:
        raise _NotFetchedError(f"status {response.status}")
    if (coding := _header(response, b"content-encoding").lower()) not in {"", "identity"}:
        raise _NotFetchedError(f"a body in the coding {coding[:40]!r}, which was not asked for")


def _header(response: httpcore.Response, name: bytes) -> str:
    values = [value for each, value in response.headers if each.lower() == name]
    return values[0].decode("latin-1") if values else ""


def _is_named(host: str, name: str) -> bool:
    """Whether a name of the setting is that of a host: equal, or `*.` before the end of it."""
    return host == name or (name.startswith("*.") and host.endswith(name[1:]))


def _tls(settings: Settings) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if settings.fetch_ca_file is not None:
        try:
            context.load_verify_locations(settings.fetch_ca_file)
        except OSError as error:
            text = f"cannot read certificates from {settings.fetch_ca_file}: {explain(error)}"
            raise InvalidValueError(text, param="fetch_ca_file") from error
    return context
