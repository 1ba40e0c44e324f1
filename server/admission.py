"""Admission control: caps requests in flight, in total and per API key."""

from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from time import monotonic

from server.problems import BusyError, RateLimitError

PUBLIC = "public"
"""The tenant of a server without keys; it has no cap of its own."""

_SMOOTHING = 0.2


class Admission:
    """Counts requests in flight. The retry time is a moving average of how long requests take."""

    def __init__(self, max_requests: int, max_per_key: int) -> None:
        self._max_requests = max_requests
        self._max_per_key = max_per_key
        self._running: Counter[str] = Counter()
        self._seconds = 1.0

    @property
    def num_running(self) -> int:
        return self._running.total()

    @contextmanager
    def enter(self, tenant: str, count: int = 1) -> Generator[None]:
        """Count one request, or what counts as so many, as in flight for the length of the `with`.

        Raises:
            BusyError: the server is full.
            RateLimitError: this key is at its own cap.
        """
        if self.num_running + count > self._max_requests:
            raise BusyError(f"{self._max_requests} requests are in flight, no more fit", self._seconds)
        if tenant != PUBLIC and self._running[tenant] + count > self._max_per_key:
            raise RateLimitError(f"this key may have {self._max_per_key} requests running", self._seconds)
        self._running[tenant] += count
        since = monotonic()
        try:
            yield
        finally:
            self._seconds += _SMOOTHING * (monotonic() - since - self._seconds)
            self._running[tenant] -= count
            if not self._running[tenant]:
                del self._running[tenant]
