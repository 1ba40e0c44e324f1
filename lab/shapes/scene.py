"""What a clip shows, as explicit values: one to three items, a background, and what happens to the first.

Lengths are in units of 1/48 of the picture side (y grows downwards), times in frames of a 32-frame clip.
"""

import json
from dataclasses import asdict, dataclass, replace
from itertools import permutations
from typing import Any

from lab.shapes import events

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
    "orange": (255, 130, 10),
    "purple": (125, 55, 185),
}
BACKGROUNDS = {
    "black": (0, 0, 0),
    "white": (255, 255, 255),
    "gray": (125, 125, 125),
    "navy": (10, 15, 85),
}
TEXTURES = ("plain", "stripes", "dots", "checks")
SIZES = ("small", "large")
LARGE_FROM = 19.0  # diameter from which an item is called large
CLEARLY = 6.0  # scene units between two items' centres from which one lies left of the other

_BEAT = events.NUM_FRAMES // events.NUM_BEATS  # frames in which a blinking item does not change


@dataclass(frozen=True, slots=True)
class SceneItem:
    """One thing in a scene, at its resting place; where its colour changes, with the first colour."""

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
    """Everything that decides a clip's or picture's pixels and the truth about it.

    The event is the first item's; the others stand still, and no two items share a shape or a colour, so each
    can be named by either.

    Captions and questions mention only what is true of the clip, of the twin's clip and of the cue picture
    alike, as found by `shown_items` and the members after it: a cue picture of two pulses shows everything
    twice and its bystanders small and elsewhere; an item that grows has no one size, one that turns blue no
    one colour.
    """

    items: tuple[SceneItem, ...]
    background: str
    event: events.Event
    texture: str = "plain"

    @property
    def actor(self) -> SceneItem:
        """The item that the event happens to."""
        return self.items[0]

    def twin(self) -> "Scene":
        """The scene whose clip holds the same frames in another order; a still scene is its own."""
        if isinstance(self.event, events.Recolour):
            turned = replace(self.actor, colour=self.event.after)
            event = self.event.twin_of(self.actor.colour)
            return replace(self, items=(turned, *self.items[1:]), event=event)
        return replace(self, event=self.event.twin())

    def twin_frames(self, frames: list[int]) -> list[int]:
        """Which of the numbers 0 .. len(frames) - 1 stands where in the twin's clip, sampled at `frames`.

        Raises:
            ValueError: the sampled frames of the twin are not a reordering of this clip's.
        """
        event = self.event
        if not isinstance(event, events.Blink):
            if [events.NUM_FRAMES - 1 - frame for frame in reversed(frames)] != frames:
                raise ValueError(f"frames {frames}: a choice that reads the same from both ends")
            return list(range(len(frames)))[::-1]
        mine, theirs = ([beats[frame // _BEAT] for frame in frames] for beats in (event.beats, event.other))
        if sorted(mine) != sorted(theirs):
            raise ValueError(f"frames {frames}: as many from every beat of {_BEAT}")
        unused = {beat: [n for n, each in enumerate(mine) if each == beat] for beat in "01"}
        return [unused[beat].pop(0) for beat in theirs]

    @property
    def shown_items(self) -> tuple[SceneItem, ...]:
        """The items that can be mentioned, the actor first."""
        return self.items[:1] if isinstance(self.event, events.PulsePair) else self.items

    @property
    def has_size(self) -> bool:
        """Whether the actor can be called small or large; where there are several, all are fairly small."""
        return len(self.items) == 1 and not isinstance(self.event, events.Resize | events.PulsePair)

    @property
    def has_number(self) -> bool:
        """Whether the number of items is beyond doubt: none comes, goes for good, or is drawn twice."""
        return not isinstance(self.event, events.Change | events.PulsePair)

    def has_colour(self, item: SceneItem) -> bool:
        """Tell whether an item has one colour from the first frame to the last."""
        return not (isinstance(self.event, events.Recolour) and item == self.actor)

    def left_of(self) -> list[tuple[SceneItem, SceneItem]]:
        """Return all pairs (A, B) of items that never move where A lies clearly left of B."""
        moves = isinstance(self.event, events.Move | events.Pace | events.PulsePair)
        resting = self.shown_items[1:] if moves else self.items
        return [(a, b) for a, b in permutations(resting, 2) if b.x - a.x >= CLEARLY]

    def to_values(self) -> dict[str, Any]:
        """What JSON can hold."""
        values = asdict(self)
        values["event"]["kind"] = self.event.kind
        return values

    def to_json(self) -> str:
        """Canonical JSON; equal scenes give equal text."""
        return json.dumps(self.to_values(), sort_keys=True, separators=(",", ":"))

    @property
    def key(self) -> str:
        """The scene without its order in time: twins share it."""
        return min(self.to_json(), self.twin().to_json())
