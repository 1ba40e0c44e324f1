"""The time by which uploads age: whoever sets the clock of the machine makes none of them older or younger.

While the server runs it follows the seconds since boot. What passes between two runs is what the clock on the
wall says, if that is less than a day; otherwise somebody has set it, or nobody was there to want a deletion.
"""

from server.uploads.disk import Clock

_LONGEST_PAUSE = 86_400.0


class AgeClock:
    """Seconds that agree with those since 1970 for as long as nobody sets the clock."""

    def __init__(self, clock: Clock, noted: tuple[float, float] | None) -> None:
        """`noted` is what an earlier run noted at last: see `note`."""
        self._clock = clock
        start = wall = clock.wall()
        if noted is not None:
            before, wall_before = noted
            start = before + (pause if 0 <= (pause := wall - wall_before) <= _LONGEST_PAUSE else 0)
        self._zero = start - clock.steady()

    def now(self) -> float:
        return self._zero + self._clock.steady()

    def note(self) -> tuple[float, float]:
        """What the next run must know: this clock, and the one on the wall."""
        return self.now(), self._clock.wall()

    def to_wall(self, time: float) -> int:
        """What the clock on the wall, as it is set now, will say then."""
        return round(time + self._ahead())

    def of_wall(self, wall: float) -> int:
        """The other way round."""
        return round(wall - self._ahead())

    def _ahead(self) -> float:
        return self._clock.wall() - self.now()
