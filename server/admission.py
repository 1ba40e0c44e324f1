"""Admission: what is in flight at once, requests and bytes of their bodies, shared by the keys."""

from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from time import monotonic
from typing import Self

from bt_model.errors import InvalidValueError
from server.keys.file import ApiKeys
from server.keys.rates import Rates
from server.problems import BusyError, RateLimitError
from server.settings import Settings

PUBLIC = "public"
"""The tenant of a server without keys: all its clients together."""

_SMOOTHING = 0.2
_MOST_SECONDS = 60.0  # that anybody is told to wait for room
_MOST_LOOKUPS = 64  # each takes milliseconds
_MOST_GUARANTEED = 8  # requests of a key that find room however many others ask


class Shares:
    """An amount that keys share: a part of it is kept for each of them, the rest goes to who comes first."""

    def __init__(self, total: int, num_keys: int, most_kept: int) -> None:
        self.total = total
        # with one key nothing is kept from it; with so many that half of all is used up, nothing is sure
        self.kept = min(most_kept, total // (2 * num_keys)) if num_keys > 1 else 0
        self._num_keys = num_keys
        self._taken: Counter[str] = Counter()

    @property
    def taken(self) -> int:
        return self._taken.total()

    def taken_by(self, key: str) -> int:
        return self._taken.get(key, 0)

    @property
    def most_of_one(self) -> int:
        """The most that one key can take, while the others take no more than is kept for them."""
        return self.total - self.kept * (self._num_keys - 1)

    def fits(self, key: str, amount: int) -> bool:
        """Whether a key may take so much more."""
        if self.taken + amount > self.total:
            return False
        own = self.taken_by(key) + amount
        used = sum(min(count, self.kept) for other, count in self._taken.items() if other != key)
        return own <= self.kept or self.taken + amount + self.kept * (self._num_keys - 1) - used <= self.total

    def take(self, key: str, amount: int) -> None:
        self._taken[key] += amount

    def give_back(self, key: str, amount: int) -> None:
        self._taken[key] -= amount
        if not self._taken[key]:
            del self._taken[key]


class HeldBytes:
    """What one request's body takes of the memory for bodies, as long as the request is in flight."""

    def __init__(self, shares: Shares, tenant: str) -> None:
        self._shares = shares
        self._tenant = tenant
        self._num_bytes = 0

    def add(self, num_bytes: int) -> None:
        """Count bytes that are held from now on.

        Raises:
            BusyError: bodies in flight fill their memory.
        """
        if not self._shares.fits(self._tenant, num_bytes):
            raise BusyError(f"bodies in flight fill the {self._shares.total} bytes that they may take", 1.0)
        self._shares.take(self._tenant, num_bytes)
        self._num_bytes += num_bytes

    def keep(self, num_bytes: int) -> None:
        """Hold no more than these; the others are gone, or a file has them."""
        given = max(self._num_bytes - num_bytes, 0)
        self._num_bytes -= given
        self._shares.give_back(self._tenant, given)


class Admission:
    """Counts what is in flight. The retry time follows from how fast requests have ended of late."""

    def __init__(self, max_requests: int, max_bytes: int, keys: ApiKeys) -> None:
        self._requests = Shares(max_requests, keys.num_tenants, _MOST_GUARANTEED)
        self._lookups = Shares(_MOST_LOOKUPS, keys.num_tenants, _MOST_GUARANTEED)
        self._bytes = Shares(max_bytes, keys.num_tenants, max_bytes)
        self._keys = keys
        self.rates = Rates(keys)
        self._seconds = 1.0
        self._num_refused = 0  # as if they waited: each that ends makes room for one

    @classmethod
    def of(cls, settings: Settings, keys: ApiKeys) -> Self:
        """By a server's settings. Memory for bodies takes two of the largest, or one might never get in."""
        largest = max(settings.max_json_bytes, settings.max_chat_bytes)
        max_bytes = max(settings.max_body_bytes_in_flight, 2 * largest)
        return cls(settings.max_requests, max_bytes, keys)

    @property
    def num_running(self) -> int:
        return self._requests.taken

    @property
    def has_spare_room(self) -> bool:
        """Whether so little runs that what can wait may run, too."""
        return 2 * self._requests.taken < self._requests.total

    @property
    def num_bytes(self) -> int:
        """Of bodies in flight."""
        return self._bytes.taken

    @contextmanager
    def enter(self, tenant: str, count: int = 1) -> Generator[HeldBytes]:
        """Count one request, or what counts as so many, as in flight for the length of the `with`.

        Raises:
            BusyError: the server is full.
            RateLimitError: this key is at its own cap.
        """
        if not self._requests.fits(tenant, count):
            raise self._full()
        most = self.most_at_once(tenant)
        if self._requests.taken_by(tenant) + count > most:
            raise RateLimitError(f"this key may have {most} requests at once", self._round_seconds)
        held, since = HeldBytes(self._bytes, tenant), monotonic()
        self._requests.take(tenant, count)
        is_refused = False
        try:
            yield held
        except BusyError:
            is_refused = True  # after all: it says nothing about how fast requests end
            raise
        finally:
            held.keep(0)
            self._requests.give_back(tenant, count)
            if not is_refused:
                self._seconds += _SMOOTHING * (monotonic() - since - self._seconds)
                self._num_refused = max(self._num_refused - count, 0)

    def hold(self, tenant: str) -> HeldBytes:
        """What a message takes that is no request's body; whoever has it gives all back."""
        return HeldBytes(self._bytes, tenant)

    @contextmanager
    def look_up(self, tenant: str) -> Generator[None]:
        """Count a request that only looks something up or deletes, for the length of the `with`.

        Raises:
            BusyError: too many do.
        """
        if not self._lookups.fits(tenant, 1):
            raise BusyError(f"{self._lookups.taken} lookups are in flight, no more fit", 1.0)
        self._lookups.take(tenant, 1)
        try:
            yield
        finally:
            self._lookups.give_back(tenant, 1)

    def most_at_once(self, tenant: str) -> int:
        """Requests that a key may have at once."""
        own = self._keys.limits(tenant).max_requests_per_key
        return min(own or self._requests.total, self._requests.most_of_one)

    def require_room(self, tenant: str, count: int, param: str) -> None:
        """Refuse what could never be let in.

        Raises:
            InvalidValueError: more at once than the key may have.
        """
        if count > (most := self.most_at_once(tenant)):
            text = f"{param} is {count}; allowed: at most {most}, the requests that this key may have at once"
            raise InvalidValueError(text, param=param)

    def left(self, tenant: str) -> dict[str, tuple[int, int, float]]:
        """What a key has left, as `Rates.left` says it; of requests at once where a minute has no limit."""
        most, running = self.most_at_once(tenant), self._requests.taken_by(tenant)
        at_once = (most, max(most - running, 0), self._round_seconds if running else 0.0)
        return {"requests": at_once, **self.rates.left(tenant)}

    @property
    def _round_seconds(self) -> float:
        """In which all that run now will have ended."""
        return min(self._seconds, _MOST_SECONDS)

    def _full(self) -> BusyError:
        """Those refused come back one after the other, as room is made, and not all at the same time."""
        self._num_refused = min(self._num_refused + 1, self._requests.total)
        seconds = self._round_seconds * self._num_refused / self._requests.total
        return BusyError(f"{self.num_running} requests are in flight, no more fit", seconds)
