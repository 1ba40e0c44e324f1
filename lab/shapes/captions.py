"""What can be said about a scene in one sentence.

A picture that shows an event by a cue has the caption of a clip that shows it in time. Everything is lower
case and without punctuation. The held-out templates use no word that the others lack.

In a template {a} and {the} are the actor; {background} is a phrase, {ground} that phrase or one word.
"""

from random import Random

from lab.shapes.events import Blink, Change, Move, Pace, PulsePair, Recolour, Resize, Rotate, Still
from lab.shapes.scene import Scene, SceneItem
from lab.shapes.wordings import NUMBERS, TEXTURE_WORDS, TIMES, templates, third_person, with_article

_SIZE_SHARE = 0.5  # of the captions that can name the item's size
_FULL_NAME_SHARE = 0.6  # of the captions that could name the actor by its colour or shape alone
_BYSTANDER_SHARE = 0.3  # of the event captions that can mention one
_STATIC_TEXTURE_SHARE = 0.5  # of the captions without the event
_EVENT_TEXTURE_SHARE = 0.25
_PLAIN_SHARE = 0.1  # of the captions that would name a pattern if there were one: few people say "plain"


CAPTIONS = {
    Still.kind: templates(
        "{items} on {ground}",
        "a picture of {items} on {ground}",
        "{items} in front of {background}",
        "{background} with {items}",
        "you can see {items} on {ground}",
        "{background} behind {items}",
        "here you see {items} on {ground}",
        held_out=(
            "a picture of {background} with {items}",
            "here you can see {items} in front of {background}",
        ),
    ),
    Move.kind: templates(
        "{a} moves {way} on {ground}",
        "{the} goes {way} on {ground}",
        "{a} slides {way} in front of {background}",
        "there is {a} moving {way} on {ground}",
        "on {ground} {a} travels {way}",
        "{a} that moves {way} and {background}",
        "{background} where {a} goes {way}",
        held_out=("on {ground} {the} moves {way}", "there is {a} that goes {way} on {ground}"),
    ),
    Pace.kind: templates(
        "{a} {does} on {ground}",
        "{the} {does} while it moves {way} on {ground}",
        "{a} moves {way} and {does} on {ground}",
        "{a} that {does} as it goes {way} in front of {background}",
        "on {ground} {a} {does}",
        "there is {a} that {does} on {ground}",
        "{background} where {a} {does} while it goes {way}",
        held_out=("on {ground} {the} goes {way} and {does}", "{a} {does} in front of {background}"),
    ),
    Change.kind: templates(
        "{a} {does} on {ground}",
        "{the} {does} on {ground}",
        "{a} that {does} in front of {background}",
        "on {ground} {a} {does}",
        "on {ground} {the} suddenly {does}",
        "{background} where {a} {does}",
        held_out=("there is {a} that {does} on {ground}", "{the} suddenly {does} in front of {background}"),
    ),
    Resize.kind: templates(
        "{a} {does} on {ground}",
        "{the} slowly {does} on {ground}",
        "{a} that {does} in front of {background}",
        "on {ground} {a} {does}",
        "{background} where {a} slowly {does}",
        "there is {a} that {does} on {ground}",
        held_out=(
            "on {ground} {the} slowly {does}",
            "there is {a} that slowly {does} in front of {background}",
        ),
    ),
    Recolour.kind: templates(
        "{a} turns {after} on {ground}",
        "{the} becomes {after} on {ground}",
        "the {shape} changes from {before} to {after} on {ground}",
        "{a} that turns {after} in front of {background}",
        "on {ground} {a} becomes {after}",
        "{background} where a {shape} changes from {before} to {after}",
        "a {shape} is first {before} and then {after} on {ground}",
        held_out=(
            "on {ground} {the} turns {after}",
            "a {shape} that is first {before} and then turns {after} on {ground}",
        ),
    ),
    PulsePair.kind: templates(
        "{a} {first} then {second} on {ground}",
        "first {the} {first} and then it {second} on {ground}",
        "{a} {first} before it {second} on {ground}",
        "on {ground} {a} {first} and then {second}",
        "{the} {first} and after that it {second} on {ground}",
        "{background} where {a} first {first} then {second}",
        held_out=(
            "on {ground} {the} {first} before it {second}",
            "first {a} {first} then it {second} on {ground}",
        ),
    ),
    Blink.kind: templates(
        "{a} blinks {times} on {ground}",
        "{the} blinks {times} on {ground}",
        "{a} that blinks {times} in front of {background}",
        "on {ground} {a} blinks {times}",
        "{background} where {a} blinks {times}",
        "there is {a} blinking {times} on {ground}",
        "{the} is gone {times} on {ground}",
        held_out=("on {ground} {the} blinks {times}", "there is {a} that blinks {times} on {ground}"),
    ),
    Rotate.kind: templates(
        "{a} turns {way} on {ground}",
        "{the} rotates {way} on {ground}",
        "{a} spins {way} in front of {background}",
        "there is {a} turning {way} on {ground}",
        "on {ground} {a} rotates {way}",
        "{a} that turns {way} and {background}",
        "{background} where {a} spins {way}",
        held_out=("on {ground} {the} turns {way}", "there is {a} that rotates {way} on {ground}"),
    ),
}


def caption(scene: Scene, rng: Random, *, static_share: float = 0.0, held_out: bool = False) -> str:
    """Describe a scene in at most 22 words; a share of the captions leaves its event out.

    Twins get the same words, but for what differs, from equal random states.
    """
    is_static = rng.random() < static_share or isinstance(scene.event, Still)
    template = CAPTIONS[Still.kind if is_static else scene.event.kind].choose(rng, held_out)
    if is_static:
        return template.format(items=_items_phrase(scene, rng), **_grounds(scene, rng, _STATIC_TEXTURE_SHARE))
    actor = _actor_name(scene, rng)
    grounds = _grounds(scene, rng, _EVENT_TEXTURE_SHARE, _bystander_phrase(scene, rng))
    return template.format(
        a=with_article(actor), the=f"the {actor}", shape=scene.actor.shape, **grounds, **event_words(scene)
    )


def event_words(scene: Scene) -> dict[str, str]:
    """Return the words that stand for the scene's event in a caption, by placeholder."""
    match scene.event:
        case Move(way) | Rotate(way):
            words = {"way": way}
        case Pace(word, way):
            words = {"way": way, "does": third_person(word)}
        case Change(word) | Resize(word):
            words = {"does": third_person(word)}
        case Recolour(after):
            words = {"before": scene.actor.colour, "after": after}
        case PulsePair(first, second):
            words = {"first": third_person(first.name), "second": third_person(second.name)}
        case Blink() as event:
            words = {"times": TIMES[event.count - 1]}
        case Still():
            words = dict[str, str]()
    return words


def _actor_name(scene: Scene, rng: Random) -> str:
    full = _full_name(scene, scene.actor, rng)
    if len(scene.items) == 1 or rng.random() < _FULL_NAME_SHARE:
        return full
    return rng.choice((f"{scene.actor.colour} object", scene.actor.shape))


def _full_name(scene: Scene, item: SceneItem, rng: Random) -> str:
    full = f"{item.colour} {item.shape}"
    return f"{item.size} {full}" if scene.has_size and rng.random() < _SIZE_SHARE else full


def _items_phrase(scene: Scene, rng: Random) -> str:
    """The scene's items without the event: all of them, their number, or which one is on the left."""
    items = scene.shown_items
    if len(items) == 1:
        return _static_phrase(scene, items[0], rng)
    phrases = [" and ".join(_static_phrase(scene, item, rng) for item in rng.sample(items, len(items)))]
    if scene.has_number:
        phrases.append(f"{NUMBERS[len(items) - 1]} objects")
    if pairs := scene.left_of():
        first, second = (_static_phrase(scene, item, rng) for item in rng.choice(pairs))
        phrases.append(f"{first} left of {second}")
    return rng.choice(phrases)


def _static_phrase(scene: Scene, item: SceneItem, rng: Random) -> str:
    return with_article(_full_name(scene, item, rng) if scene.has_colour(item) else item.shape)


def _bystander_phrase(scene: Scene, rng: Random) -> str:
    others = scene.shown_items[1:]
    if not others or rng.random() >= _BYSTANDER_SHARE:
        return ""
    item = rng.choice(others)
    number = f"{NUMBERS[len(others) - 1]} other object{'s' if len(others) > 1 else ''}"
    return f" with {rng.choice((with_article(f'{item.colour} {item.shape}'), number))}"


def _grounds(scene: Scene, rng: Random, texture_share: float, beside: str = "") -> dict[str, str]:
    share = texture_share * (_PLAIN_SHARE if scene.texture == "plain" else 1.0)
    background = f"a {scene.background} background"
    if rng.random() < share:
        background = ground = with_article(f"{TEXTURE_WORDS[scene.texture]} {scene.background} background")
    else:
        ground = rng.choice((background, scene.background))
    return {"background": background + beside, "ground": ground + beside}
