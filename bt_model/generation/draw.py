"""Random numbers of a request: one for each position, from the seed alone, whatever else runs."""

_MASK = (1 << 64) - 1


def uniform(seed: int, position: int) -> float:
    """A number in [0, 1) for new token number `position`: SplitMix64's mixer over the seed, then over it."""
    return (_mix(_mix(seed) ^ position) >> 11) / 2.0**53


def mixed(number: float) -> float:
    """Another such number, which follows from one."""
    return (_mix(int(number * 2.0**53)) >> 11) / 2.0**53


def _mix(x: int) -> int:
    """SplitMix64's output function (Steele, Lea and Flood, 2014)."""
    x = (x + 0x9E3779B97F4A7C15) & _MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _MASK
    return x ^ (x >> 31)
