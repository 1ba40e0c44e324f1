"""Pooled tokens of a video, as a safetensors file that is read when its numbers are asked for."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_NAME = "tokens"


@dataclass(frozen=True, slots=True)
class TokenArray:
    """Tokens (K, D); `dtype` is that of the file."""

    content: bytes = field(repr=False)
    shape: tuple[int, ...]
    dtype: str
    fingerprint: str
    warnings: tuple[str, ...] = ()

    def array(self) -> "NDArray[np.floating[Any]]":
        """(K, D) for numpy, which has no bfloat16: that becomes float32, without loss."""
        import numpy as np
        from safetensors import deserialize

        stored: dict[str, Any] = dict(deserialize(self.content))[_NAME]
        if stored["dtype"] != "BF16":
            from safetensors.numpy import load

            return load(self.content)[_NAME]
        upper = np.frombuffer(stored["data"], "<u2").astype(np.uint32)  # a float32 without its lower half
        return (upper << 16).view(np.float32).reshape(stored["shape"])

    def save(self, path: str | Path) -> None:
        """Write the safetensors file, whose tensor is called `tokens`. Raises OSError."""
        Path(path).write_bytes(self.content)
