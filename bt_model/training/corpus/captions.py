"""What can be said about a scene in one sentence.

A picture that shows an event by a cue has the caption of a clip that shows it in time. Everything is lower
case and without punctuation. The held-out templates use no word that the others lack.
"""

from dataclasses import dataclass
from random import Random

from bt_model.training.corpus.scene import Change, Event, Move, Order, Scene, Still

_SIZE_SHARE = 0.5  # of the captions that can name the item's size


@dataclass(frozen=True, slots=True)
class Templates:
    """Ways to say or ask one thing; `held_out` ones are for tests only."""

    train: tuple[str, ...]
    held_out: tuple[str, ...]

    def choose(self, rng: Random, held_out: bool) -> str:
        return rng.choice(self.held_out if held_out else self.train)


CAPTIONS = {
    Still.kind: Templates(
        train=(
            "a {item} on a {ground} background",
            "a picture of a {item} on {ground}",
            "there is a {item} on a {ground} background",
            "one {item} and a {ground} background",
            "{ground} background with a {item}",
            "a {item} in front of a {ground} background",
        ),
        held_out=(
            "a {ground} picture with one {item}",
            "there is a {ground} background and a {item} in front of it",
        ),
    ),
    Move.kind: Templates(
        train=(
            "a {item} moves {way} on a {ground} background",
            "the {item} goes {way} on {ground}",
            "a {item} slides {way} in front of a {ground} background",
            "there is a {item} moving {way} on a {ground} background",
            "on {ground} a {item} travels {way}",
            "a {item} that moves {way} and a {ground} background",
        ),
        held_out=(
            "on a {ground} background the {item} moves {way}",
            "there is a {item} that goes {way} on {ground}",
        ),
    ),
    Change.kind: Templates(
        train=(
            "a {item} {verb} on a {ground} background",
            "the {item} {verb} on {ground}",
            "a {item} that {verb} in front of a {ground} background",
            "on {ground} a {item} {verb}",
            "on a {ground} background the {item} suddenly {verb}",
            "a {ground} background where a {item} {verb}",
        ),
        held_out=(
            "there is a {item} that {verb} on {ground}",
            "the {item} suddenly {verb} in front of a {ground} background",
        ),
    ),
    Order.kind: Templates(
        train=(
            "a {item} {first} then {second} on a {ground} background",
            "first the {item} {first} and then it {second} on {ground}",
            "a {item} {first} before it {second} on a {ground} background",
            "on {ground} a {item} {first} and then {second}",
            "the {item} {first} and after that it {second} on {ground}",
            "a {ground} background where a {item} first {first} then {second}",
        ),
        held_out=(
            "on a {ground} background the {item} {first} before it {second}",
            "first a {item} {first} then it {second} on {ground}",
        ),
    ),
}


def caption(scene: Scene, rng: Random, *, static_share: float = 0.0, held_out: bool = False) -> str:
    """Describe a scene; a share of the captions leaves its event out. Twins get the same words otherwise."""
    is_static = rng.random() < static_share
    templates = CAPTIONS[Still.kind if is_static else scene.event.kind]
    template = templates.choose(rng, held_out)
    return template.format(
        item=_item_phrase(scene, rng),
        ground=scene.background,
        **({} if is_static else event_words(scene.event)),
    )


def event_words(event: Event) -> dict[str, str]:
    """Return the words that stand for an event in a caption, by placeholder."""
    match event:
        case Move():
            return {"way": event.direction}
        case Change():
            return {"verb": f"{event.word}s"}
        case Order():
            return {"first": f"{event.first.name}s", "second": f"{event.second.name}s"}
        case Still():
            return {}


def _item_phrase(scene: Scene, rng: Random) -> str:
    item = scene.item
    # where the item grows, or is drawn twice in a strip, its size is not a fact
    names_size = rng.random() < _SIZE_SHARE and not isinstance(scene.event, Order)
    return f"{item.size} {item.colour} {item.shape}" if names_size else f"{item.colour} {item.shape}"
