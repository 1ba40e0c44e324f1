"""Numbers that look random and follow from a seed alone, a stream of them for everything that draws."""

from collections.abc import Sequence
from typing import TypeVar

_T = TypeVar("_T")

_MASK = 2**64 - 1
_STEP = 0x9E3779B97F4A7C15


class Draws:
    """SplitMix64: cheap to make, so that each request and each fault has a stream of its own.

    So what one of them draws stays the same when others are left out of a plan.
    """

    __slots__ = ("_state",)

    def __init__(self, *seeds: int) -> None:
        self._state = 0
        for seed in seeds:
            self._state = (self._state ^ seed) & _MASK
            self._state = self._next()

    def _next(self) -> int:
        self._state = (self._state + _STEP) & _MASK
        z = self._state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
        return z ^ (z >> 31)

    def below(self, number: int) -> int:
        """0 to `number` - 1."""
        return self._next() % number

    def chance(self, probability: float) -> bool:
        return self._next() < probability * 2**64

    def between(self, low: float, high: float) -> float:
        return low + (high - low) * (self._next() / 2**64)

    def pick(self, values: Sequence[_T]) -> _T:
        return values[self._next() % len(values)]

    def token(self, num_bytes: int) -> bytes:
        """As os.urandom."""
        numbers = (self._next().to_bytes(8, "big") for _ in range(-(-num_bytes // 8)))
        return b"".join(numbers)[:num_bytes]

    def shuffle(self, values: list[_T]) -> None:
        for last in range(len(values) - 1, 0, -1):
            other = self._next() % (last + 1)
            values[last], values[other] = values[other], values[last]
