"""What uploads take, each key's and all together, and whether more may come."""

from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Self

from server.problems import Problem
from server.settings import Settings

_SHARE, _SMALL = 16, 4096
_WAY_OUT = "DELETE /v1/video/uploads/{id} makes room"


@dataclass(frozen=True, slots=True)
class StoreLimits:
    """What uploads may take, and for how long."""

    ttl_seconds: float = 0.0
    """Life of an upload; 0 is endless."""

    max_bytes: int = 1 << 40
    """Of all files together."""

    max_bytes_per_key: int = 1 << 40
    """Of one tenant's uploads."""

    max_videos_per_key: int = 1 << 40
    resumable_seconds: float = 86_400.0
    """Life of an upload in pieces after its last piece."""

    @classmethod
    def of(cls, settings: Settings) -> Self:
        return cls(
            settings.upload_ttl_seconds,
            settings.max_stored_bytes,
            settings.max_stored_bytes_per_key,
            settings.max_videos_per_key,
            settings.resumable_seconds,
        )


def kept_index(index: bytes, num_bytes: int) -> bytes:
    """A video's index, or nothing: what is kept is so small beside the video that no limit counts it."""
    return index if len(index) <= num_bytes // _SHARE + _SMALL else b""


class StorageUsage:
    """Changed by the thread that changes the rows; uploads in pieces count in their full length."""

    def __init__(self, limits: StoreLimits) -> None:
        self.limits = limits
        self.num_bytes = 0  # of all files; uploads with the same bytes share one
        self.bytes_of = Counter[str]()
        self.videos_of = Counter[str]()

    def change(self, tenant: str, num_bytes: int, file_bytes: int, num_videos: int) -> None:
        """A tenant has so much more, or less."""
        self.bytes_of[tenant] += num_bytes
        self.videos_of[tenant] += num_videos
        self.num_bytes += file_bytes

    def take(self, num_bytes: int) -> None:
        """So much more is on disk for a while. Raises Problem: all together would have too much."""
        if self.num_bytes + num_bytes > self.limits.max_bytes:
            raise _full(self.limits.max_bytes)
        self.num_bytes += num_bytes

    def give_back(self, num_bytes: int) -> None:
        """What `take` took."""
        self.num_bytes -= num_bytes

    def check(self, tenant: str, num_bytes: int, file_bytes: int, num_videos: int = 1) -> None:
        """Raises Problem: with so much more, this tenant or all together would have too much."""
        limits = self.limits
        if self.videos_of[tenant] + num_videos > limits.max_videos_per_key:
            text = f"{limits.max_videos_per_key} uploads (BTCHAT_MAX_VIDEOS_PER_KEY)"
            raise _over_quota(f"the uploads of this key are all it may have, {text}")
        if self.bytes_of[tenant] + num_bytes > limits.max_bytes_per_key:
            raise _too_many_bytes(limits.max_bytes_per_key)
        if self.num_bytes + file_bytes > limits.max_bytes:
            raise _full(limits.max_bytes)


class Incoming:
    """Bytes of bodies that are being received; it lives on the event loop."""

    def __init__(self, usage: StorageUsage) -> None:
        self._usage = usage
        self._taken = Counter[str | None]()

    @property
    def num_bytes(self) -> int:
        return self._taken.total()

    @contextmanager
    def room(self, tenant: str | None, declared_bytes: int) -> Generator["Room"]:
        """Room for one body, of what stored files leave when it begins; all of it for one that is not stored.

        Raises:
            Problem: there is less than what is announced.
        """
        if tenant is not None:
            self._usage.check(tenant, 0, 0)
        room = Room(self._usage, self._taken, tenant)
        try:
            room.reserve(declared_bytes)
            yield room
        finally:
            self._taken[tenant] -= room.num_bytes


class Room:
    """What one body takes while it is received."""

    def __init__(self, usage: StorageUsage, taken: Counter[str | None], tenant: str | None) -> None:
        self._limits = usage.limits
        self._free = self._free_of_key = usage.limits.max_bytes
        if tenant is not None:
            self._free -= usage.num_bytes
            self._free_of_key = usage.limits.max_bytes_per_key - usage.bytes_of[tenant]
        self._taken = taken
        self._tenant = tenant
        self._received = 0
        self.num_bytes = 0

    def reserve(self, num_bytes: int) -> None:
        """Raises Problem: what is stored and being received would be more than it may be."""
        more = max(num_bytes - self.num_bytes, 0)
        if self._taken[self._tenant] + more > self._free_of_key:
            raise _too_many_bytes(self._limits.max_bytes_per_key)
        if self._taken.total() + more > self._free:
            raise _full(self._limits.max_bytes)
        self.num_bytes += more
        self._taken[self._tenant] += more

    def add(self, num_bytes: int) -> None:
        """So many more bytes have come. Raises as `reserve`."""
        self._received += num_bytes
        self.reserve(self._received)


def _full(most: int) -> Problem:
    text = f"all uploads together may take {most} bytes (BTCHAT_MAX_STORED_BYTES), and this is too much"
    return Problem(507, f"{text}; {_WAY_OUT}", code="storage_full", headers={"x-should-retry": "false"})


def _too_many_bytes(most: int) -> Problem:
    text = f"the uploads of one key may take {most} bytes (BTCHAT_MAX_STORED_BYTES_PER_KEY)"
    return _over_quota(f"{text}, and this is too much")


def _over_quota(text: str) -> Problem:
    """413, not 507: nobody but this key can make room, so no client should try again by itself."""
    return Problem(413, f"{text}; {_WAY_OUT}", code="storage_quota")
