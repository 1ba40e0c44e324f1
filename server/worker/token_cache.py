"""Pooled tokens by key: in memory, and those of uploads on disk as well."""

from typing import Any

from bt_model.errors import FeaturesMissingError
from server.worker.feature_cache import CacheEntry, FeatureCache
from server.worker.token_file import PooledTokens
from server.worker.token_store import TokenStore


class TokenCache:
    """For one event loop."""

    def __init__(self, max_bytes: int, store: TokenStore) -> None:
        self._memory: FeatureCache[PooledTokens] = FeatureCache(max_bytes)
        self.store = store

    async def get(self, key: bytes) -> CacheEntry[PooledTokens] | None:
        """Tokens and receipt, from wherever they are."""
        entry = self._memory.get(key)
        if entry is not None:
            self.store.touch(key)
        if entry is None and (entry := await self.store.get(key)) is not None:
            self._memory.put(key, entry.value, entry.num_bytes, entry.receipt)
        return entry

    async def tokens(self, key: bytes) -> PooledTokens:
        """Raises FeaturesMissingError where they are nowhere."""
        entry = await self.get(key)
        if entry is None:
            raise FeaturesMissingError("the video's tokens are no longer cached; they must be encoded again")
        return entry.value

    def put(self, key: bytes, value: PooledTokens, receipt: dict[str, Any]) -> None:
        """Keep in memory at once, and on disk soon."""
        num_bytes = value.tokens.nbytes
        self._memory.put(key, value, num_bytes, receipt)
        self.store.put(key, CacheEntry(value, num_bytes, receipt))

    def forget(self, prefix: bytes) -> None:
        """Drop all keys that begin so."""
        self._memory.forget(prefix)
        self.store.forget(prefix)

    def stats(self) -> dict[str, float]:
        return {
            "feature_cache_bytes": float(self._memory.num_bytes),
            "feature_cache_entries": float(len(self._memory)),
            "token_store_bytes": float(self.store.num_bytes),
            "token_store_entries": float(len(self.store)),
            "token_store_hits_total": float(self.store.num_hits),
        }
