"""When frames are shown, from what the packets of a stream say: one rule for every container.

N frames in display order; packets in the order in which they are stored.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import accumulate, pairwise
from statistics import median_low

from bt_model.video.formats import Container
from bt_model.video.packets import PacketTable, average_fps

_BACK_SECONDS, _AHEAD_SECONDS = 0.1, 10.0  # a clock that leaps farther was set anew, as ffmpeg judges it
_RUN_IN_SECONDS = 0.1  # codecs write silence before their first sound, so that it begins before the picture
_MOST_SECONDS = 24 * 3600.0  # a last frame that is shown for longer is damage
_MOST_DELAY = 16  # of any codec; a decoder that takes more packets met damage
_STAMPED_AS_STORED = ("avi", "asf")
_LEAPING = ("mpegts", "mpeg")  # broadcasts: the clock may be set anew in mid-stream


@dataclass(frozen=True, slots=True)
class StreamHeader:
    """What a container says of its video stream, beside the packets.

    `time_base` is in seconds, `fps` the header's rate, `num_ticks` the stream's length; `other_starts` are
    the seconds at which the other tracks of sound and picture begin; `delay` is how many packets the decoder
    takes before the one with which it outputs a frame. `is_shuffled`: it outputs frames in another order than
    their timestamps say.
    """

    container: Container
    time_base: Fraction | None
    fps: float
    num_ticks: int | None
    other_starts: Sequence[float]
    delay: int = 0
    is_shuffled: bool = False

    @property
    def has_stored_order_only(self) -> bool:
        """Whether packets are stamped in the order in which they are stored; pts are guesses then."""
        return self.is_shuffled or self.container in _STAMPED_AS_STORED

    @property
    def has_slots(self) -> bool:
        """Whether times are numbers of slots, from 0, of which some are empty."""
        return self.container == "avi"


@dataclass(frozen=True, slots=True)
class Timeline:
    """`times`: seconds at which each of the N frames is shown, ascending; `seconds`: where the last one ends.

    `labels` are the frames' own timestamps, by which a decoder's output is known; None where they are not
    all there, or not all different.
    """

    times: list[float]
    seconds: float
    labels: list[int] | None


def timeline_of(table: PacketTable, header: StreamHeader) -> Timeline:
    """The shown frames of these packets on a player's clock.

    The clock is at 0 with the first frame or, where that is earlier, with the beginning of another track. One
    that begins less than a tenth of a second before does so for its codec's run-in.
    """
    stamps, labels = _stamps(table, header)
    if header.time_base is None or stamps is None:
        times = [i / header.fps for i in range(len(table.shown))]
        return Timeline(times, times[-1] + 1 / header.fps, None)
    up, down = header.time_base.numerator, header.time_base.denominator
    first = 0 if header.has_slots else stamps[0]  # the first slots may hold no picture
    lead = first * up / down - min(header.other_starts, default=math.inf)
    lead = lead if _RUN_IN_SECONDS <= lead < _MOST_SECONDS else 0.0
    times = [lead + (stamp - first) * up / down for stamp in stamps]
    last = table.last_duration * up / down
    seconds = times[-1] + (last if 0 < last < _MOST_SECONDS else 1 / average_fps(times, header.fps))
    slots = (header.num_ticks or 0) * up / down if header.has_slots else 0.0  # the last ones likewise
    seconds = max(seconds, lead + slots if slots < _MOST_SECONDS else 0.0)
    return Timeline(times, seconds, labels)


def _stamps(table: PacketTable, header: StreamHeader) -> tuple[list[int] | None, list[int] | None]:
    """Ticks at which the frames are shown, ascending, and the same once more if they are labels."""
    shown = [stamp for i in table.shown if (stamp := table.pts[i]) is not None]
    decoded = [stamp for i in table.shown if (stamp := table.dts[i]) is not None]
    if header.is_shuffled and len(shown) == len(table.shown):
        return _as_output(shown, header.delay), None
    if header.has_stored_order_only or len(shown) < len(table.shown):
        return (_as_output(sorted(decoded), header.delay) if len(decoded) == len(table.shown) else None), None
    if header.container in _LEAPING and len(decoded) == len(shown):
        shifts = _shifts(decoded, float(header.time_base or 1))
        if any(shifts):
            return sorted(map(sum, zip(shown, shifts, strict=True))), None
    stamps = sorted(shown)
    return stamps, stamps if len(set(stamps)) == len(stamps) else None


def _as_output(stored: list[int], delay: int) -> list[int]:
    """Ticks at which the decoder outputs each frame, `delay` packets late, counted from the first.

    Where slots are empty, the gap lies so many frames earlier than in the packets.
    """
    if not 0 < delay < min(len(stored), _MOST_DELAY + 1):
        return stored
    lag = stored[delay] - stored[0]
    step = median_low([after - before for before, after in pairwise(stored)])
    last = [stored[-1] + step * (number + 1) for number in range(delay)]
    return [stamp - lag for stamp in (*stored[delay:], *last)]


def _shifts(decoded: Sequence[int], tick_seconds: float) -> list[int]:
    """What is to be added to each packet's times so that they go on where the clock was set anew."""
    steps = [after - before for before, after in pairwise(decoded)]
    usual = median_low(steps or [0])
    leaps = (0 if -_BACK_SECONDS <= step * tick_seconds <= _AHEAD_SECONDS else usual - step for step in steps)
    return [*accumulate(leaps, initial=0)]
