"""How fast a client reads its answer."""

from time import monotonic


class ReaderPace:
    """For each answer a client has `seconds` in all, and one more for every `rate` bytes that it reads.

    Of these it may be silent for `seconds` at a time. Only time in which the server waits for it counts.
    """

    def __init__(self, seconds: float, rate: int) -> None:
        self._seconds = seconds
        self._rate = rate
        self._left = seconds
        self._unsent = 0
        self._since = self._read_at = monotonic()

    def begin(self) -> None:
        """Another answer."""
        self._left = self._seconds

    def wait(self, unsent: int) -> None:
        """From now on the server waits for so many bytes to be read."""
        self._unsent = unsent
        self._since = self._read_at = monotonic()

    def look(self, unsent: int) -> None:
        """So many of them are left."""
        now = monotonic()
        self._left -= now - self._since
        if unsent < self._unsent:
            self._left += (self._unsent - unsent) / self._rate
            self._read_at = now
        self._unsent, self._since = unsent, now

    @property
    def deadline(self) -> float:
        """When it is too slow, unless it reads."""
        return min(self._since + self._left, self._read_at + self._seconds)
