"""Of which scenes with one item a caption is true: by what it says of the scene that it was written for."""

from bt_model.errors import require
from lab.shapes.captions import event_words
from lab.shapes.events import Blink, Move, Pace, PulsePair, Recolour
from lab.shapes.scene import Scene


def is_true(text: str, described: Scene, other: Scene) -> bool:
    """Whether a caption of a scene is true of another one, too.

    What moves left while it speeds up moves left; what blinks and then jumps blinks once.

    Raises:
        InvalidValueError: a scene of several items, of which a text may name any.
    """
    for scene in (described, other):
        require(len(scene.items) == 1, "items", len(scene.items), "1")
    said = {name: value for name, value in _facts(described).items() if _names(text, value)}
    facts = _facts(other)
    return _happens(described, other) and all(facts.get(name) == value for name, value in said.items())


def _names(text: str, value: str) -> bool:
    return f" {value} " in f" {text} "


def _facts(scene: Scene) -> dict[str, str]:
    """What a caption may say of a scene, by what it is about."""
    size = {"size": scene.actor.size} if scene.has_size else {}
    words = event_words(scene)
    if not isinstance(scene.event, Recolour):
        words["colour"] = scene.actor.colour
    if isinstance(scene.event, PulsePair) and "blink" in (scene.event.first.name, scene.event.second.name):
        words["times"] = "once"
    return {
        "shape": scene.actor.shape,
        "background": scene.background,
        "texture": scene.texture,
        **size,
        **words,
    }


def _happens(described: Scene, other: Scene) -> bool:
    """Whether the other scene has an event that the same words can name."""
    if isinstance(described.event, Move):
        return isinstance(other.event, Move | Pace)
    if isinstance(described.event, Blink):
        return isinstance(other.event, Blink | PulsePair) and "times" in _facts(other)
    return type(described.event) is type(other.event)
