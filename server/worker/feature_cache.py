"""LRU cache of pooled tokens, bounded by bytes."""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class CacheEntry(Generic[Value]):
    """Tokens and the receipt of how they were computed."""

    value: Value
    num_bytes: int
    receipt: dict[str, Any]


class FeatureCache(Generic[Value]):
    """For one thread. Knows nothing of what it holds but its size."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.num_bytes = 0
        self._entries: OrderedDict[bytes, CacheEntry[Value]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: bytes) -> CacheEntry[Value] | None:
        """The entry, now the most recently used, or None."""
        entry = self._entries.get(key)
        if entry is not None:
            self._entries.move_to_end(key)
        return entry

    def put(self, key: bytes, value: Value, num_bytes: int, receipt: dict[str, Any]) -> None:
        """Add a value; the newest is kept even if it alone exceeds the bound."""
        self._drop(key)
        self._entries[key] = CacheEntry(value, num_bytes, receipt)
        self.num_bytes += num_bytes
        while self.num_bytes > self.max_bytes and len(self._entries) > 1:
            self._drop(next(iter(self._entries)))

    def forget(self, prefix: bytes) -> None:
        """Drop all keys that begin so."""
        for key in [key for key in self._entries if key.startswith(prefix)]:
            self._drop(key)

    def _drop(self, key: bytes) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self.num_bytes -= entry.num_bytes
