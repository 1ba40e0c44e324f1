"""What keys take of a minute or a day: requests, tokens, seconds of video; and wrong keys by address."""

import ipaddress
import time

from limits import RateLimitItem, RateLimitItemPerDay, RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter, MovingWindowRateLimiter, RateLimiter

from server.keys.file import ApiKeys
from server.problems import RateLimitError

_MOST_ADDRESSES = 10_000
_PREFIX_V6 = 64  # bits that one subscriber has


class Rates:
    """Counts by tenant, in memory: a restart forgets them. A limit of 0 is none.

    Requests are counted when they come, by a window that moves. Tokens and seconds are known when they are
    spent, so that the last of a window may go beyond it; then its end is waited for.
    """

    def __init__(self, keys: ApiKeys) -> None:
        self._keys = keys
        storage = MemoryStorage()
        self._moving = MovingWindowRateLimiter(storage)
        self._fixed = FixedWindowRateLimiter(storage)

    def count_request(self, tenant: str, count: int = 1) -> None:
        """One request, or what counts as so many. Raises RateLimitError: a minute's have come."""
        item = self._requests(tenant)
        if item is not None and count and not self._moving.hit(item, tenant, cost=count):
            raise _over(self._moving, item, tenant, "requests a minute")

    def require_tokens(self, tenant: str) -> None:
        """Raises RateLimitError: a minute's tokens are spent."""
        item = self._tokens(tenant)
        if item is not None and not self._fixed.test(item, tenant):
            raise _over(self._fixed, item, tenant, "tokens a minute")

    def spend_tokens(self, tenant: str, count: int) -> None:
        if (item := self._tokens(tenant)) is not None and count:
            self._fixed.hit(item, tenant, cost=count)

    def require_video(self, tenant: str) -> None:
        """Raises RateLimitError: a day's seconds of video are spent."""
        item = self._video(tenant)
        if item is not None and not self._fixed.test(item, tenant):
            raise _over(self._fixed, item, tenant, "seconds of video a day")

    def spend_video(self, tenant: str, seconds: float) -> None:
        if (item := self._video(tenant)) is not None:
            self._fixed.hit(item, tenant, cost=max(round(seconds), 1))

    def left(self, tenant: str) -> dict[str, tuple[int, int, float]]:
        """By `requests` and `tokens` where they have a limit: the limit, what is left, seconds to the end."""
        counted = (
            ("requests", self._moving, self._requests(tenant)),
            ("tokens", self._fixed, self._tokens(tenant)),
        )
        return {
            name: (
                item.amount,
                max(limiter.get_window_stats(item, tenant).remaining, 0),
                _wait(limiter, item, tenant),
            )
            for name, limiter, item in counted
            if item is not None
        }

    def _requests(self, tenant: str) -> RateLimitItem | None:
        amount = self._keys.limits(tenant).requests_per_minute
        return RateLimitItemPerMinute(amount, namespace="requests") if amount else None

    def _tokens(self, tenant: str) -> RateLimitItem | None:
        amount = self._keys.limits(tenant).tokens_per_minute
        return RateLimitItemPerMinute(amount, namespace="tokens") if amount else None

    def _video(self, tenant: str) -> RateLimitItem | None:
        amount = self._keys.limits(tenant).video_seconds_per_day
        return RateLimitItemPerDay(amount, namespace="video") if amount else None


class WrongKeys:
    """Wrong keys by the address that they come from, which bounds how fast keys can be guessed."""

    def __init__(self, per_minute: int) -> None:
        self._item = RateLimitItemPerMinute(per_minute, namespace="wrong")
        self._storage = MemoryStorage()
        self._limiter = FixedWindowRateLimiter(self._storage)

    def count(self, address: str) -> float:
        """Count one; seconds for which the address is to be told nothing, 0 as long as it sent few."""
        known = self._storage.storage
        place = _network(address)
        if self._item.key_for(place) not in known and len(known) >= _MOST_ADDRESSES:
            place = "others"  # together, so that no number of addresses fills the memory
        if self._limiter.hit(self._item, place):
            return 0.0
        return _wait(self._limiter, self._item, place)


def _network(address: str) -> str:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    mapped = parsed.ipv4_mapped
    return str(mapped or ipaddress.ip_network((int(parsed), _PREFIX_V6), strict=False))


def _wait(limiter: RateLimiter, item: RateLimitItem, key: str) -> float:
    """Seconds to the end of a window."""
    seconds = limiter.get_window_stats(item, key).reset_time - time.time()
    if seconds > item.get_expiry():  # the clock was put back
        limiter.clear(item, key)
        return 0.0
    return max(seconds, 0.0)


def _over(limiter: RateLimiter, item: RateLimitItem, tenant: str, what: str) -> RateLimitError:
    return RateLimitError(f"this key may have {item.amount} {what}", _wait(limiter, item, tenant))
