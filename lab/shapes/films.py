"""Films: many scenes in a row, each of which rests, has its event and rests again; and when each event is.

F frames of a scene, S picture side. What is searched for is rare: an event has 4 of a scene's 18 seconds.
"""

import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from bt_model.atomic_files import write_text
from bt_model.errors import require
from lab.shapes.captions import caption
from lab.shapes.clip_file import write_frames
from lab.shapes.events import KINDS, NUM_FRAMES, Still
from lab.shapes.paint import SIDE, Pixels, paint_clip
from lab.shapes.scene import FPS, Scene
from lab.shapes.splits import SPLITS, scenes

EVENT_SECONDS = NUM_FRAMES / FPS
HAPPENING = tuple(kind for kind in KINDS if kind != Still.kind)
_LEAST_REST = 1.0  # seconds before and after an event


@dataclass(frozen=True, slots=True)
class FilmPlan:
    """What a film holds: so many events in so many seconds, of a split; kinds take turns, in mixed order.

    With `twins` every second scene is the twin of another one, somewhere else in the film.

    Raises:
        InvalidValueError: no room for the events, an odd number of twins, or an unknown split.
    """

    num_events: int = 200
    seconds: float = 3600.0
    split: str = "test"
    seed: int = 0
    twins: bool = False
    side: int = SIDE

    def __post_init__(self) -> None:
        require(self.split in SPLITS, "split", self.split, f"one of {', '.join(SPLITS)}")
        count, least = self.num_events, EVENT_SECONDS + 2 * _LEAST_REST
        is_whole = count >= 1 and (count % 2 == 0 or not self.twins)
        require(is_whole, "num_events", count, "1 or more, and an even number with twins")
        room = least * count <= self.seconds < math.inf
        require(room, "seconds", self.seconds, f"{least * count:g} or more for {count} events")
        require(self.side > 0 and self.side % 2 == 0, "side", self.side, "an even number of pixels")

    @property
    def scene_frames(self) -> int:
        """Frames of each scene, with its rests."""
        return round(self.seconds * FPS) // self.num_events


@dataclass(frozen=True, slots=True)
class FilmEvent:
    """One event: what happens, from when until when in seconds, and two ways to ask for it."""

    scene: Scene
    begin: float
    end: float
    caption: str
    paraphrase: str  # in a wording that training never has

    @property
    def kind(self) -> str:
        return self.scene.event.kind

    def to_values(self) -> dict[str, Any]:
        """What JSON can hold."""
        return {**asdict(self), "scene": self.scene.to_values(), "kind": self.kind}


def draw_film(plan: FilmPlan) -> list[FilmEvent]:
    """The events of a film, in its order."""
    rng = Random(f"film {plan.split} {plan.seed}")
    count = plan.num_events // 2 if plan.twins else plan.num_events
    drawn = scenes(plan.split, count, plan.seed, HAPPENING)
    if plan.twins:
        drawn = [each for scene in drawn for each in (scene, scene.twin())]
    rng.shuffle(drawn)
    rest = round(_LEAST_REST * FPS)
    listed: list[FilmEvent] = []
    for number, scene in enumerate(drawn):
        first = number * plan.scene_frames + rng.randint(rest, plan.scene_frames - NUM_FRAMES - rest)
        texts = (
            caption(scene, Random(f"{plan.seed} {scene.key}"), held_out=held_out)
            for held_out in (False, True)
        )
        listed.append(FilmEvent(scene, first / FPS, (first + NUM_FRAMES) / FPS, *texts))
    return listed


def paint_film(plan: FilmPlan, events: list[FilmEvent]) -> Iterator[Pixels]:
    """The frames of each scene, one scene after another. -> (F, S, S, 3) each."""
    for number, event in enumerate(events):
        clip = paint_clip(event.scene, plan.side)
        before = round(event.begin * FPS) - number * plan.scene_frames
        after = plan.scene_frames - before - len(clip)
        yield np.concatenate([clip[:1].repeat(before, 0), clip, clip[-1:].repeat(after, 0)])


def write_film(path: Path, plan: FilmPlan) -> list[FilmEvent]:
    """Write a film and, beside it, its plan and events as JSON; where that lies the film is complete."""
    events = draw_film(plan)
    frames = (frame for scene in paint_film(plan, events) for frame in scene)
    write_frames(path, frames, (plan.side, plan.side), codec="film")
    values = {"plan": asdict(plan), "fps": FPS, "events": [event.to_values() for event in events]}
    write_text(path.with_suffix(".json"), json.dumps(values, indent=1) + "\n")
    return events
