"""Pooled tokens as the bytes of a file: a checksum, then a safetensors file."""

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from safetensors.torch import load, save

from server.worker.feature_cache import CacheEntry

if TYPE_CHECKING:
    from torch import Tensor

_DIGEST_BYTES = hashlib.sha256().digest_size
_LENGTH_BYTES = 8  # of the length of a safetensors file's header


@dataclass(frozen=True, slots=True)
class PooledTokens:
    """Pooled tokens (K, D) and the fingerprint of the model that computed them."""

    tokens: "Tensor"
    fingerprint: str

    def safetensors(self, **metadata: str) -> bytes:
        """A file with the tensor `tokens`, its fingerprint, and more metadata."""
        tokens = self.tokens.cpu().contiguous()
        return save({"tokens": tokens}, metadata={"fingerprint": self.fingerprint, **metadata})


def to_bytes(key: bytes, entry: CacheEntry[PooledTokens]) -> bytes:
    """Tokens and receipt, with a checksum over them and their key."""
    content = entry.value.safetensors(receipt=json.dumps(entry.receipt))
    return _digest(key, content) + content


def from_bytes(key: bytes, data: bytes) -> CacheEntry[PooledTokens]:
    """What `to_bytes` was given.

    Raises:
        ValueError: not those bytes, or those of another key.
    """
    digest, content = data[:_DIGEST_BYTES], data[_DIGEST_BYTES:]
    if digest != _digest(key, content):
        raise ValueError("the checksum is wrong")
    header_end = _LENGTH_BYTES + int.from_bytes(content[:_LENGTH_BYTES], "little")
    metadata = cast(dict[str, Any], json.loads(content[_LENGTH_BYTES:header_end]))["__metadata__"]
    tokens = load(content)["tokens"]
    value = PooledTokens(tokens, metadata["fingerprint"])
    return CacheEntry(value, tokens.nbytes, json.loads(metadata["receipt"]))


def _digest(key: bytes, content: bytes) -> bytes:
    return hashlib.sha256(key + content).digest()
