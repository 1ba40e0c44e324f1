"""What clients do and what goes wrong in a run: it follows from a seed, and parts of it can be left out."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

from tests.simulation.draws import Draws
from tests.simulation.engine import MODELS, REFUSED_FRAMES

Deed = Literal[
    "upload", "ask", "part", "complete", "delete", "forget", "show", "list", "pry", "frames", "tokens",
    "flood",
]  # fmt: skip
Fault = Literal[
    "engine dies", "engine hangs", "engine is slow", "engine fails", "engine does not start",
    "tokens evicted", "answers stall", "disk is full", "disk fails", "children die", "children hang",
    "clock steps",
]  # fmt: skip
End = Literal["stop", "power cut", "killed"]

TENANTS = ("public", "first", "second", "third")
NUM_CONTENTS = 40
NUM_BROKEN = 1  # of these, the last
FOREVER = 1e9
_POPULAR = 6  # of all, those that most are about
_SECONDS = 24.0  # of a life
_DEEDS: tuple[tuple[Deed, int], ...] = (
    ("upload", 16), ("ask", 34), ("part", 4), ("complete", 26), ("delete", 7), ("forget", 3), ("show", 3),
    ("list", 2), ("pry", 2), ("frames", 4), ("tokens", 3), ("flood", 5),
)  # fmt: skip
_FAULTS: tuple[Fault, ...] = (
    *get_args(Fault), "engine dies", "engine hangs", "tokens evicted", "answers stall", "disk fails",
    "disk is full",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Action:
    """A request; `number` seeds everything that is drawn for it."""

    number: int
    at: float
    deed: Deed
    tenant: str
    which: int  # of the tenant's videos, or of all contents
    models: tuple[str, ...] = ()
    choices: int = 1
    frames: int | None = None
    is_stream: bool = False
    patience: float = FOREVER  # seconds until the client leaves
    pace: float = 0.0  # seconds between reads of a slow reader

    def text(self) -> str:
        more = {
            "models": self.models,
            "choices": self.choices if self.choices > 1 else (),
            "frames": self.frames or (),
            "stream": self.is_stream,
            "patience": () if self.patience == FOREVER else round(self.patience, 3),
            "pace": round(self.pace, 3),
        }
        shown = " ".join(f"{name}={value}" for name, value in more.items() if value)
        return f"{self.at:8.3f} {self.tenant} {self.deed} #{self.number} of {self.which} {shown}"


@dataclass(frozen=True, slots=True)
class Trouble:
    """A fault for some seconds."""

    number: int
    at: float
    fault: Fault
    seconds: float

    def text(self) -> str:
        return f"{self.at:8.3f} {self.fault} for {self.seconds:.3f} s"


Event = Action | Trouble


@dataclass(frozen=True, slots=True)
class Life:
    """A server from its start to its end; `ends_at` counts from its start."""

    events: tuple[Event, ...]
    end: End
    ends_at: float
    ttl_seconds: float
    ahead: bool


@dataclass(frozen=True, slots=True)
class Plan:
    """Lives of a server on one disk, one after the other."""

    seed: int
    lives: tuple[Life, ...]
    has_keys: bool  # without them everybody is the public

    @property
    def events(self) -> list[Event]:
        return [event for life in self.lives for event in life.events]

    def only(self, kept: Sequence[Event]) -> "Plan":
        """The same plan without all other events."""
        chosen = {event.number for event in kept}
        lives = [
            replace(life, events=tuple(event for event in life.events if event.number in chosen))
            for life in self.lives
        ]
        return replace(self, lives=tuple(lives))

    def without_life(self, index: int) -> "Plan":
        return replace(self, lives=self.lives[:index] + self.lives[index + 1 :])

    def text(self) -> str:
        lines: list[str] = []
        for life in self.lives:
            lines += [event.text() for event in sorted(life.events, key=lambda event: event.at)]
            lines.append(f"{life.ends_at:8.3f} the server ends: {life.end}")
        return "\n".join(lines)


def plan_of(seed: int, size: float = 1.0) -> Plan:
    """The plan of a seed; `size` multiplies how much happens in a life."""
    draws = Draws(seed, 1)
    numbers = iter(range(1, 1 << 30))
    lives: list[Life] = []
    quiet = draws.chance(0.25)  # nothing goes wrong, so nothing may fail
    tenants = TENANTS if draws.chance(0.75) else TENANTS[:1]
    num_lives = 1 + draws.below(3)
    for number in range(num_lives):
        seconds = draws.between(0.5, 1.0) * _SECONDS
        rate = draws.pick((4.0, 10.0, 20.0)) * size
        events: list[Event] = []
        for _ in range(int(seconds * rate)):
            events += _requests(draws, seconds, numbers, tenants)
        for _ in range(0 if quiet else draws.below(6)):
            fault = draws.pick(_FAULTS)
            long = draws.between(0.05, 4.0)
            events.append(Trouble(next(numbers), draws.between(0.0, seconds), fault, long))
        is_last = number == num_lives - 1
        end: End = "stop" if is_last else draws.pick(("stop", "power cut", "power cut", "killed"))
        ttl = draws.pick((0.0, 0.0, 0.0, 10.0))
        lives.append(Life(tuple(events), end, seconds, ttl, ahead=draws.chance(0.5)))
    return Plan(seed, tuple(lives), has_keys=len(tenants) > 1)


_WEIGHTED: list[Deed] = [deed for deed, weight in _DEEDS for _ in range(weight)]


def _requests(draws: Draws, seconds: float, numbers: Iterator[int], tenants: Sequence[str]) -> list[Action]:
    """One request, or many at once."""
    number = next(numbers)
    at = draws.between(0.0, seconds)
    tenant = draws.pick(tenants)
    deed = draws.pick(_WEIGHTED)
    which = draws.below(_POPULAR)
    if deed == "upload" and draws.below(2):
        which = draws.below(NUM_CONTENTS) if draws.below(5) else NUM_CONTENTS - NUM_BROKEN
    if deed == "flood":
        kind: Deed = draws.pick(("ask", "complete", "upload"))
        first = _request(draws, number, at, kind, tenant, which)
        others = [replace(first, number=next(numbers)) for _ in range(10 + draws.below(40))]
        return [first, *others]
    return [_request(draws, number, at, deed, tenant, which)]


def _request(draws: Draws, number: int, at: float, deed: Deed, tenant: str, which: int) -> Action:
    patience = FOREVER
    if draws.below(6) == 0:
        patience = draws.between(0.0, draws.pick((0.06, 0.6)))
    action = Action(number, at, deed, tenant, which, patience=patience)
    if deed not in {"ask", "part", "complete", "frames", "tokens"}:
        return action
    frames = draws.pick((None, None, None, 4, 8, REFUSED_FRAMES))
    models = (draws.pick(MODELS),)
    if deed in {"ask", "part"} and draws.below(5) == 0:
        models = draws.pick((MODELS, MODELS[:2], MODELS[1:3], MODELS[2:]))
    return replace(
        action,
        models=models,
        frames=frames,
        choices=2 + draws.below(2) if deed == "complete" and draws.below(6) == 0 else 1,
        is_stream=deed in {"ask", "part", "complete"} and draws.below(2) == 0,
        pace=draws.between(0.01, 0.3) if draws.below(10) == 0 else 0.0,
    )
