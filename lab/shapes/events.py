"""What can happen in a clip, as explicit values.

Lengths are in units of 1/48 of the picture side (y grows downwards), times in frames of a 32-frame clip,
angles in degrees (clockwise on the screen). Every event but `Still` has a twin: the event whose clip holds
exactly the same frames in another order. All twins but that of `Blink` are time reversals.
"""

from dataclasses import dataclass, fields, replace
from typing import ClassVar, Self, get_args

NUM_FRAMES = 32
NUM_BEATS = 8  # a blinking item is there or gone for whole beats of 4 frames
DIRECTIONS = ("left", "right", "up", "down")
DIAGONALS = ("up left", "down right", "up right", "down left")
PACES = ("speed up", "slow down")
CHANGES = ("appear", "disappear")
RESIZES = ("grow", "shrink")
TURNS = ("clockwise", "counterclockwise")
PULSES = ("blink", "grow", "jump", "sway")
COUNTS = (1, 2, 3, 4)
_WAYS = DIRECTIONS + DIAGONALS
_PAIRS = (*zip(_WAYS[::2], _WAYS[1::2], strict=True), PACES, CHANGES, RESIZES, TURNS)
OPPOSITE = {a: b for pair in _PAIRS for a, b in (pair, pair[::-1])}
STEPS = {
    "left": (-1.0, 0.0), "right": (1.0, 0.0), "up": (0.0, -1.0), "down": (0.0, 1.0),
    "up left": (-0.7, -0.7), "down right": (0.7, 0.7), "up right": (0.7, -0.7), "down left": (-0.7, 0.7),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Event:
    """What can happen to the first item of a scene."""

    kind: ClassVar[str]

    @property
    def group(self) -> str:
        """The event in a combination of colour, shape and event, some of which are for tests only."""
        return self.kind


@dataclass(frozen=True, slots=True)
class _Worded(_Event):
    """An event whose twin has the opposite words; one without words is its own twin."""

    def twin(self) -> Self:
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(self, **{name: OPPOSITE[word] for name, word in values.items() if word in OPPOSITE})


@dataclass(frozen=True, slots=True)
class Still(_Worded):
    """Nothing happens."""

    kind: ClassVar[str] = "still"


@dataclass(frozen=True, slots=True)
class Move(_Worded):
    """The item crosses `path` units at constant speed; the scene has it in the middle of the path."""

    kind: ClassVar[str] = "move"
    direction: str
    path: float

    @property
    def group(self) -> str:
        if self.direction in DIAGONALS:
            return "diagonal"
        return "horizontal" if self.direction in {"left", "right"} else "vertical"


@dataclass(frozen=True, slots=True)
class Pace(_Worded):
    """The item crosses `path` units and speeds up, or slows down, all the way."""

    kind: ClassVar[str] = "pace"
    word: str
    direction: str
    path: float


@dataclass(frozen=True, slots=True)
class Change(_Worded):
    """The item is absent for the first (appear) or last (disappear) `absent` frames."""

    kind: ClassVar[str] = "change"
    word: str
    absent: int


@dataclass(frozen=True, slots=True)
class Resize(_Worded):
    """The item's diameter grows, or shrinks, by `share` of itself, half of that before the middle."""

    kind: ClassVar[str] = "resize"
    word: str
    share: float


@dataclass(frozen=True, slots=True)
class Recolour(_Event):
    """The item has its own colour for `at` frames, then the colour `after`; its twin swaps the two."""

    kind: ClassVar[str] = "recolour"
    after: str
    at: int

    def twin_of(self, colour: str) -> Self:
        """The twin of this event of an item whose first colour is `colour`."""
        return replace(self, after=colour, at=NUM_FRAMES - self.at)


@dataclass(frozen=True, slots=True)
class Blink(_Event):
    """The item is there ("1") or gone ("0") beat by beat; `other`, with as many beats on, is its twin's."""

    kind: ClassVar[str] = "count"
    beats: str
    other: str

    @property
    def count(self) -> int:
        """How many times the item is gone."""
        return sum(a == "1" and b == "0" for a, b in zip("1" + self.beats[:-1], self.beats, strict=True))

    def twin(self) -> Self:
        return replace(self, beats=self.other, other=self.beats)


@dataclass(frozen=True, slots=True)
class Rotate(_Worded):
    """The item turns by `degrees` about its centre, and stands at `middle` in the middle of the clip."""

    kind: ClassVar[str] = "rotate"
    word: str
    degrees: float
    middle: float


@dataclass(frozen=True, slots=True)
class Pulse:
    """A there-and-back event, symmetric in time: `width` frames, `margin` frames away from the clip's end."""

    name: str
    margin: int
    width: int


@dataclass(frozen=True, slots=True)
class PulsePair(_Event):
    """Two pulses, one in each half of the clip, so that playing it backwards swaps them and nothing else."""

    kind: ClassVar[str] = "order"
    first: Pulse
    second: Pulse

    @property
    def group(self) -> str:
        return "+".join(sorted((self.first.name, self.second.name)))

    def twin(self) -> Self:
        return replace(self, first=self.second, second=self.first)


Event = Move | Pace | Change | Resize | Recolour | PulsePair | Blink | Rotate | Still
KINDS: tuple[str, ...] = tuple(event.kind for event in get_args(Event))
# what the evidence is about: kinds whose twin is the clip backwards, the same to a model that ignores order
REVERSIBLE = (Move.kind, Pace.kind, Change.kind, Resize.kind, Recolour.kind, PulsePair.kind)
