"""Which facts of a scene hold in its clip, in its twin's clip and in its cue picture alike, and their words.

Only these can be said and asked: a cue picture of an order shows everything twice, its bystanders small and
out of place; an item that grows has no one size, one that turns blue no one colour.
"""

from itertools import permutations

from lab.shapes.events import Blink, Change, PulsePair, Recolour, Resize, Rotate, Still
from lab.shapes.scene import Scene, SceneItem

NUMBERS = ("one", "two", "three", "four")
TIMES = ("once", "twice", "three times", "four times")
TEXTURE_WORDS = {"plain": "plain", "stripes": "striped", "dots": "dotted", "checks": "checked"}
CLEARLY = 6.0  # scene units between two items' centres from which one lies left of the other


def shown_items(scene: Scene) -> tuple[SceneItem, ...]:
    """Return the items that can be spoken of, the actor first."""
    return scene.items[:1] if isinstance(scene.event, PulsePair) else scene.items


def bystanders(scene: Scene) -> tuple[SceneItem, ...]:
    """Return the items beside the actor that can be spoken of."""
    return shown_items(scene)[1:]


def has_colour(scene: Scene, item: SceneItem) -> bool:
    """Tell whether an item has one colour from the first frame to the last."""
    return not (isinstance(scene.event, Recolour) and item == scene.actor)


def has_size(scene: Scene) -> bool:
    """Tell whether the actor can be called small or large; where there are several, all are fairly small."""
    return len(scene.items) == 1 and not isinstance(scene.event, Resize | PulsePair)


def has_number(scene: Scene) -> bool:
    """Tell whether the number of items is beyond doubt: none comes, goes for good, or is drawn twice."""
    return not isinstance(scene.event, Change | PulsePair)


def left_of(scene: Scene) -> list[tuple[SceneItem, SceneItem]]:
    """Return all pairs (A, B) of items that never move where A lies clearly left of B."""
    actor_rests = isinstance(scene.event, Still | Change | Resize | Recolour | Blink | Rotate)
    resting = scene.items if actor_rests else bystanders(scene)
    return [(a, b) for a, b in permutations(resting, 2) if b.x - a.x >= CLEARLY]


def third_person(verb: str) -> str:
    """Speed up -> speeds up."""
    first, *rest = verb.split()
    return " ".join((f"{first}s", *rest))


def with_article(noun: str) -> str:
    """Orange ring -> an orange ring."""
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"
