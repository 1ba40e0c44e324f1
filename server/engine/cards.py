"""Model cards as they come over the wire."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bt_model.types import FrameSize, ModelCard
from server.engine.wire import Ready


@dataclass(frozen=True, slots=True)
class Announcement:
    """What a ready engine says of itself: the first model's card, and the names of all that can be asked."""

    card: ModelCard
    models: tuple[str, ...]

    @classmethod
    def of(cls, ready: Ready) -> "Announcement":
        return cls(card_of(ready.card), tuple(ready.models))


def card_of(fields: Mapping[str, Any]) -> ModelCard:
    """A card from its fields; the wire turns tuples into lists."""
    given = dict(fields)
    size = FrameSize(**given.pop("frame_size"))
    accepted, notes = given.pop("accepted", ()), given.pop("notes", ())
    return ModelCard(**given, frame_size=size, accepted=tuple(accepted), notes=tuple(notes))
