"""The index of a video from one pass over its packets: when each frame is shown, and which packets it needs.

N frames in display order, from 0; packets in the order in which they are stored.
"""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import pairwise

from bt_model.types import VideoFacts
from bt_model.video.facts import Picture
from bt_model.video.formats import Container
from bt_model.video.orientation import Orientation
from bt_model.video.picture import stretched


@dataclass(frozen=True, slots=True)
class PacketTable:
    """What the packets of one stream say, in ticks of its clock; `shown` and `keys` are their numbers.

    `places` are the bytes at which the key packets begin; None where that is not known.
    """

    pts: list[int | None] = field(default_factory=list[int | None])
    dts: list[int | None] = field(default_factory=list[int | None])
    durations: list[int] = field(default_factory=list[int])
    keys: list[int] = field(default_factory=list[int])
    places: list[int | None] = field(default_factory=list[int | None])
    shown: list[int] = field(default_factory=list[int])

    def add(
        self,
        pts: int | None,
        dts: int | None,
        duration: int | None,
        *,
        is_key: bool,
        is_shown: bool,
        place: int | None = None,
    ) -> None:
        if is_key:
            self.keys.append(len(self.pts))
            self.places.append(place)
        if is_shown:
            self.shown.append(len(self.pts))
        self.pts.append(pts)
        self.dts.append(dts)
        self.durations.append(duration or 0)

    @property
    def is_stamped_as_stored(self) -> bool:
        """Whether frames would be shown in the order in which they are stored."""
        stamps = [stamp for stamp in self.pts if stamp is not None]
        return all(before < after for before, after in pairwise(stamps))

    @property
    def last_duration(self) -> int:
        """Of the packet that is shown last."""
        stamps = self.dts if None in self.pts else self.pts
        return self.durations[max(self.shown, key=lambda number: (stamps[number] or 0, number))]


@dataclass(frozen=True, slots=True)
class Clip:
    """One video stream, read but not decoded.

    `labels` are the presentation timestamps of the N frames. None means that they cannot be trusted: then
    frame i is the i-th that the decoder outputs, and every packet before it is needed. `is_counted` says that
    frames were counted by decoding them; before, one that is lost is not known.
    `pts` holds the timestamp of every packet, `keys` the packets where decoding can begin, `places` the
    bytes at which those begin where that is how to seek to them; the last frame ends at `seconds`. `warnings`
    tell clients what is missing.
    """

    container: Container
    codec: str
    width: int
    height: int
    orientation: Orientation
    picture: Picture
    has_audio: bool
    header_fps: float
    times: Sequence[float]
    seconds: float
    labels: Sequence[int] | None
    pts: Sequence[int | None]
    keys: Sequence[int]
    warnings: tuple[str, ...] = ()
    places: Sequence[int] = ()
    is_counted: bool = False

    @property
    def fps(self) -> float:
        return average_fps(self.times, self.header_fps)

    @property
    def displayed(self) -> tuple[int, int]:
        """Width and height as a player shows them, in square pixels and the right way up."""
        return self.orientation.displayed(
            *stretched(self.width, self.height, self.picture.sample_aspect_ratio)
        )

    @property
    def facts(self) -> VideoFacts:
        width, height = self.displayed
        return VideoFacts(
            width=width,
            height=height,
            num_frames=len(self.times),
            fps=self.fps,
            seconds=self.seconds,
            rotation=self.orientation.degrees,
            codec=self.codec,
            container=self.container,
            has_audio=self.has_audio,
            **asdict(self.picture),
            warnings=self.warnings,
        )

    def label(self, index: int) -> int:
        """The label by which frame `index` is recognised at the decoder's output."""
        return index if self.labels is None else self.labels[index]

    def num_needed(self, indices: Sequence[int]) -> int:
        """Packets to decode for these frames."""
        return sum(map(len, self.runs(indices))) if indices else 0

    def recounted(self, times: Sequence[float], labels: Sequence[int] | None = None) -> "Clip":
        """The same stream with only the frames that the decoder really outputs, in this order."""
        last, warnings = self.seconds - self.times[-1], self.warnings
        if len(times) < len(self.times):
            warnings += (f"{len(times)} of {len(self.times)} frames can be decoded; the others are left out",)
        found = replace(self, times=times, seconds=times[-1] + last, labels=labels, warnings=warnings)
        return replace(found, is_counted=True)

    def runs(self, indices: Iterable[int]) -> list[range]:
        """The runs of packets to decode for these frames, each from a key packet to the last one needed.

        Packets between the runs need not be decoded. A frame that is shown before the preceding key packet
        (open GOP) may reference the group before it, so that group is included.
        """
        if self.labels is None:
            return [range(len(self.pts))]
        wanted = {self.labels[i] for i in indices}
        last_needed: dict[int, int] = {}  # first packet of a group -> last packet needed in it
        for ordinal, stamp in enumerate(self.pts):
            if stamp not in wanted:
                continue
            group = max(bisect_right(self.keys, ordinal) - 1, 0)
            first = self.keys[group] if self.keys else 0
            last_needed[first] = ordinal
            if group > 0 and _before(stamp, self.pts[first]):
                last_needed[self.keys[group - 1]] = first - 1
        return _joined(range(first, last + 1) for first, last in sorted(last_needed.items()))


def average_fps(times: Sequence[float], header_fps: float) -> float:
    """Frames a second: the header's rate if the timestamps agree with it, else their average."""
    span = times[-1] - times[0]
    if span <= 0:
        return header_fps
    measured = (len(times) - 1) / span
    return header_fps if abs(measured / header_fps - 1) < 1e-2 else measured  # noqa: PLR2004 - 1 %


def _before(stamp: int | None, key: int | None) -> bool:
    return stamp is not None and key is not None and stamp < key


def _joined(runs: Iterable[range]) -> list[range]:
    """Adjacent runs are merged, so that the decoder is not flushed between them."""
    joined: list[range] = []
    for run in runs:
        if joined and joined[-1].stop == run.start:
            joined[-1] = range(joined[-1].start, run.stop)
        else:
            joined.append(run)
    return joined
