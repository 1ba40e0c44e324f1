"""What can happen in a clip, as explicit values.

Lengths are in units of 1/48 of the picture side (y grows downwards), times in frames of a 32-frame clip,
angles in degrees (clockwise on the screen). Every event but `Still` has a twin: the event whose clip holds
exactly the same frames in another order. All twins but that of `Blink` are time reversals.
"""

from dataclasses import dataclass, replace
from typing import ClassVar, Self

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
class Still:
    """Nothing happens."""

    kind: ClassVar[str] = "still"

    @property
    def group(self) -> str:
        return self.kind

    def twin(self) -> Self:
        return self


@dataclass(frozen=True, slots=True)
class Move:
    """The item crosses `path` units at constant speed; its place in the scene is the middle of the path."""

    kind: ClassVar[str] = "move"
    direction: str
    path: float

    @property
    def group(self) -> str:
        return _axis(self.direction)

    def twin(self) -> Self:
        return replace(self, direction=OPPOSITE[self.direction])


@dataclass(frozen=True, slots=True)
class Pace:
    """The item crosses `path` units and speeds up, or slows down, all the way."""

    kind: ClassVar[str] = "pace"
    word: str
    direction: str
    path: float

    @property
    def group(self) -> str:
        return self.kind

    def twin(self) -> Self:
        return replace(self, word=OPPOSITE[self.word], direction=OPPOSITE[self.direction])


@dataclass(frozen=True, slots=True)
class Change:
    """The item is absent for the first (appear) or last (disappear) `absent` frames."""

    kind: ClassVar[str] = "change"
    word: str
    absent: int

    @property
    def group(self) -> str:
        return self.kind

    def twin(self) -> Self:
        return replace(self, word=OPPOSITE[self.word])


@dataclass(frozen=True, slots=True)
class Resize:
    """The item's diameter grows, or shrinks, by `share` of itself, half of that before the middle."""

    kind: ClassVar[str] = "resize"
    word: str
    share: float

    @property
    def group(self) -> str:
        return self.kind

    def twin(self) -> Self:
        return replace(self, word=OPPOSITE[self.word])


@dataclass(frozen=True, slots=True)
class Recolour:
    """The item has its own colour for `at` frames, then the colour `after`; its twin swaps the two."""

    kind: ClassVar[str] = "recolour"
    after: str
    at: int

    @property
    def group(self) -> str:
        return self.kind

    def twin_of(self, colour: str) -> Self:
        """The twin of this event of an item whose first colour is `colour`."""
        return replace(self, after=colour, at=NUM_FRAMES - self.at)


@dataclass(frozen=True, slots=True)
class Blink:
    """The item is there ("1") or gone ("0") beat by beat; `other`, with as many beats on, is its twin's."""

    kind: ClassVar[str] = "count"
    beats: str
    other: str

    @property
    def group(self) -> str:
        return self.kind

    @property
    def count(self) -> int:
        """How many times the item is gone."""
        return sum(a == "1" and b == "0" for a, b in zip("1" + self.beats[:-1], self.beats, strict=True))

    def twin(self) -> Self:
        return replace(self, beats=self.other, other=self.beats)


@dataclass(frozen=True, slots=True)
class Rotate:
    """The item turns by `degrees` about its centre, and stands at `middle` in the middle of the clip."""

    kind: ClassVar[str] = "rotate"
    word: str
    degrees: float
    middle: float

    @property
    def group(self) -> str:
        return self.kind

    def twin(self) -> Self:
        return replace(self, word=OPPOSITE[self.word])


@dataclass(frozen=True, slots=True)
class Pulse:
    """A there-and-back event, symmetric in time: `width` frames, `margin` frames away from the clip's end."""

    name: str
    margin: int
    width: int


@dataclass(frozen=True, slots=True)
class Order:
    """Two pulses, one in each half of the clip, so that playing it backwards swaps them and nothing else."""

    kind: ClassVar[str] = "order"
    first: Pulse
    second: Pulse

    @property
    def group(self) -> str:
        return "+".join(sorted((self.first.name, self.second.name)))

    def twin(self) -> Self:
        return replace(self, first=self.second, second=self.first)


Event = Still | Move | Pace | Change | Resize | Recolour | Blink | Rotate | Order
EVENTS: dict[str, type[Event]] = {
    each.kind: each for each in (Move, Pace, Change, Resize, Recolour, Order, Blink, Rotate, Still)
}
KINDS = tuple(EVENTS)
# What a model that is blind to order cannot tell from its twin, and a time reversal alone decides.
REVERSIBLE = (Move.kind, Pace.kind, Change.kind, Resize.kind, Recolour.kind, Order.kind)


def _axis(direction: str) -> str:
    if direction in {"left", "right"}:
        return "horizontal"
    return "vertical" if direction in {"up", "down"} else "diagonal"
