"""Names to addresses, by the system's resolver, whose calls cannot be ended.

The event loop would make them in a pool of a few threads, which as many names of a silent server fill.
"""

import asyncio
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from threading import Thread

from server.admission import Shares
from server.problems import BusyError, RateLimitError

_MOST = 64
_MOST_KEPT = 8  # for each of several keys
_RETRY_SECONDS = 5.0  # in which most are answered

Found = Sequence[str] | Exception


def _addresses(host: str) -> Sequence[str]:
    """Those first that are reached best."""
    return [str(address[0]) for *_, address in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)]


class Lookups:
    """Each in a thread of its own, which counts until it ends; keys share their number."""

    def __init__(self, num_tenants: int = 1, look_up: Callable[[str], Sequence[str]] = _addresses) -> None:
        self._running = Shares(_MOST, num_tenants, _MOST_KEPT)
        self._look_up = look_up

    async def __call__(self, host: str, tenant: str) -> Sequence[str]:
        """The addresses of a name.

        Raises:
            OSError: it has none that is known.
            BusyError: too many names are being looked up.
            RateLimitError: too many of this key are.
        """
        if not self._running.fits(tenant, 1):
            raise self._refusal()
        found: asyncio.Future[Sequence[str]] = asyncio.get_running_loop().create_future()
        Thread(target=self._find, args=(host, tenant, found), name="lookup", daemon=True).start()
        self._running.take(tenant, 1)
        return await found

    def _find(self, host: str, tenant: str, found: asyncio.Future[Sequence[str]]) -> None:
        result: Found
        try:
            result = self._look_up(host)
        except Exception as error:  # noqa: BLE001 - is raised where it is awaited
            result = error
        with suppress(RuntimeError):  # the server has ended meanwhile
            found.get_loop().call_soon_threadsafe(self._end, tenant, found, result)

    def _end(self, tenant: str, found: asyncio.Future[Sequence[str]], result: Found) -> None:
        self._running.give_back(tenant, 1)
        if found.done():  # nobody waits any more
            return
        if isinstance(result, Exception):
            found.set_exception(result)
        else:
            found.set_result(result)

    def _refusal(self) -> BusyError:
        if self._running.taken >= self._running.total:
            return BusyError(f"{self._running.taken} names of hosts are being looked up", _RETRY_SECONDS)
        text = f"this key may have {self._running.most_of_one} names of hosts looked up at once"
        return RateLimitError(text, _RETRY_SECONDS)
