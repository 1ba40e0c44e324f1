"""What a clip shows, as explicit values: one item, a background and an event.

Lengths are in units of 1/48 of the picture side (y grows downwards), times in frames of a 32-frame clip.
"""

import json
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar, Self

NUM_FRAMES = 32
FPS = 8
EXTENT = 48.0  # picture side in scene units
SHAPES = ("circle", "square", "triangle", "cross", "ring", "bar")
COLOURS = {
    "red": (225, 25, 30),
    "yellow": (250, 215, 0),
    "green": (20, 175, 45),
    "cyan": (0, 205, 225),
    "blue": (45, 95, 255),
    "magenta": (240, 40, 215),
}
BACKGROUNDS = {
    "black": (0, 0, 0),
    "white": (255, 255, 255),
    "gray": (125, 125, 125),
    "navy": (10, 15, 85),
}
OPPOSITE = {
    "left": "right",
    "right": "left",
    "up": "down",
    "down": "up",
    "appear": "disappear",
    "disappear": "appear",
}
DIRECTIONS = ("left", "right", "up", "down")
CHANGES = ("appear", "disappear")
PULSES = ("blink", "grow", "jump", "sway")
LARGE_FROM = 19.0  # diameter from which an item is called large


@dataclass(frozen=True, slots=True)
class Still:
    """Nothing happens."""

    kind: ClassVar[str] = "still"

    @property
    def group(self) -> str:
        return self.kind

    def reversed(self) -> Self:
        return self


@dataclass(frozen=True, slots=True)
class Move:
    """The item crosses `path` units at constant speed; its place in the scene is the middle of the path."""

    kind: ClassVar[str] = "move"
    direction: str
    path: float

    @property
    def group(self) -> str:
        return "horizontal" if self.direction in {"left", "right"} else "vertical"

    def reversed(self) -> Self:
        return replace(self, direction=OPPOSITE[self.direction])


@dataclass(frozen=True, slots=True)
class Change:
    """The item is absent for the first (appear) or last (disappear) `absent` frames."""

    kind: ClassVar[str] = "change"
    word: str
    absent: int

    @property
    def group(self) -> str:
        return self.kind

    def reversed(self) -> Self:
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

    def reversed(self) -> Self:
        return replace(self, first=self.second, second=self.first)


Event = Still | Move | Change | Order
KINDS = (Move.kind, Change.kind, Order.kind, Still.kind)


@dataclass(frozen=True, slots=True)
class Item:
    """The one thing in a scene, at its resting place."""

    shape: str
    colour: str
    diameter: float
    x: float
    y: float

    @property
    def size(self) -> str:
        return "large" if self.diameter >= LARGE_FROM else "small"


@dataclass(frozen=True, slots=True)
class Scene:
    """Everything that decides a clip's or picture's pixels and the truth about it."""

    item: Item
    background: str
    event: Event

    def reversed(self) -> "Scene":
        """Return the twin: the same frames in the opposite order."""
        return replace(self, event=self.event.reversed())

    def to_values(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        values = asdict(self)
        values["event"]["kind"] = self.event.kind
        return values

    @classmethod
    def from_values(cls, values: dict[str, Any]) -> "Scene":
        """Read what `to_values` gave."""
        return cls(Item(**values["item"]), values["background"], _event(values["event"]))

    def to_json(self) -> str:
        """Return canonical JSON; equal scenes give equal text."""
        return json.dumps(self.to_values(), sort_keys=True, separators=(",", ":"))

    @property
    def key(self) -> str:
        """The scene without its time direction: twins share it."""
        return min(self.to_json(), self.reversed().to_json())


def _event(values: dict[str, Any]) -> Event:
    facts = {name: value for name, value in values.items() if name != "kind"}
    if values["kind"] == Order.kind:
        return Order(Pulse(**facts["first"]), Pulse(**facts["second"]))
    return {Still.kind: Still, Move.kind: Move, Change.kind: Change}[values["kind"]](**facts)
