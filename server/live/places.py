"""How many live sessions there are at once, shared by the keys as requests are."""

import asyncio
from collections.abc import Generator
from contextlib import contextmanager

from server.admission import Shares
from server.keys.file import ApiKeys
from server.problems import BusyError, RateLimitError
from server.settings import Settings

_RETRY_SECONDS = 10.0
_MOST_GUARANTEED = 2  # sessions of a key that find room however many others have


class LivePlaces:
    """Every session has one; `stopping` is set when all are to end."""

    def __init__(self, settings: Settings, keys: ApiKeys) -> None:
        self.stopping = asyncio.Event()
        self._shares = Shares(settings.live_sessions, keys.num_tenants, _MOST_GUARANTEED)
        self._most_of_one = settings.live_sessions_per_key

    @property
    def num_taken(self) -> int:
        return self._shares.taken

    @contextmanager
    def enter(self, tenant: str) -> Generator[None]:
        """A place for the length of the `with`.

        Raises:
            BusyError: there is none.
            RateLimitError: this key has as many as it may.
        """
        if self._most_of_one is not None and self._shares.taken_by(tenant) >= self._most_of_one:
            text = f"this key may have {self._most_of_one} live sessions at once"
            raise RateLimitError(text, _RETRY_SECONDS)
        if not self._shares.fits(tenant, 1):
            raise BusyError(f"{self._shares.taken} live sessions are open, no more fit", _RETRY_SECONDS)
        self._shares.take(tenant, 1)
        try:
            yield
        finally:
            self._shares.give_back(tenant, 1)
