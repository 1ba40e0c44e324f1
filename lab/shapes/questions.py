"""What can be asked about a scene, and the one right answer to each question, as a phrase and as a sentence.

A picture that shows an event by a cue is asked the questions of a clip that shows it in time. A scene
and its twin are asked the same questions when they start from equal random states; only the temporal answers
differ.
"""

from dataclasses import dataclass
from random import Random

from lab.shapes import events
from lab.shapes.scene import SIZES, Scene, SceneItem
from lab.shapes.wordings import NUMBERS, QUESTIONS, TEXTURE_WORDS, TIMES, third_person

TEMPORAL = ("direction", "pace", "change", "resize", "recolour", "order", "count", "rotate")
STATIC = ("colour", "shape", "size", "background", "texture", "number", "relation")


@dataclass(frozen=True, slots=True)
class ClipQuestion:
    """A question about one scene with its exact answer, one phrase; `sentence` says the same in full."""

    kind: str
    text: str
    answer: str
    sentence: str

    @property
    def is_temporal(self) -> bool:
        return self.kind in TEMPORAL


@dataclass(frozen=True, slots=True)
class _Fact:
    """What to ask: the wording's name, the true value, and what the placeholders can stand for."""

    wording: str
    value: str
    names: tuple[str, ...] = ("object",)
    other: str = ""
    alternatives: tuple[str, ...] = ()


def questions(scene: Scene, rng: Random, *, held_out: bool = False) -> list[ClipQuestion]:
    """Ask one question of each kind that the scene answers, the temporal ones first."""
    return [_worded(fact, rng, held_out) for fact in (*_temporal(scene, rng), *_static(scene, rng))]


def _happening(verb: str) -> str:
    """Return an event as questions and answers call it: speed up -> it speeds up."""
    return f"it {third_person(verb)}"


def _temporal(scene: Scene, rng: Random) -> list[_Fact]:
    event, names = scene.event, _names(scene, scene.actor)
    match event:
        case events.Pace(word, way):
            facts = [_with_opposite("pace", word, names), _with_opposite("direction", way, names)]
        case events.Move(way):
            facts = [_with_opposite("direction", way, names)]
        case events.Change(word) | events.Resize(word) | events.Rotate(word):
            facts = [_with_opposite(event.kind, word, names)]
        case events.Recolour(after):
            facts = [_one_end(event, (scene.actor.colour, after), names, rng)]
        case events.PulsePair(first, second):
            facts = [_one_end(event, (first.name, second.name), names, rng)]
        case events.Blink():
            facts = [_Fact("count", NUMBERS[event.count - 1], names)]
        case events.Still():
            facts = list[_Fact]()
    return facts


def _with_opposite(wording: str, word: str, names: tuple[str, ...]) -> _Fact:
    return _Fact(wording, word, names, alternatives=(word, events.OPPOSITE[word]))


def _one_end(event: events.Event, both: tuple[str, str], names: tuple[str, ...], rng: Random) -> _Fact:
    end = rng.randrange(2)
    return _Fact(f"{event.kind} {('first', 'last')[end]}", both[end], names, alternatives=both)


def _static(scene: Scene, rng: Random) -> list[_Fact]:
    facts: list[_Fact] = []
    items = scene.shown_items
    is_alone = len(scene.items) == 1
    if coloured := [item for item in items if scene.has_colour(item)]:
        item = rng.choice(coloured)
        facts.append(_Fact("colour", item.colour, ("object", item.shape) if is_alone else (item.shape,)))
    # one of several items can be named without its shape only by its colour
    if shaped := [item for item in items if is_alone or scene.has_colour(item)]:
        item = rng.choice(shaped)
        coloured_name = (f"{item.colour} object",) if scene.has_colour(item) else ()
        facts.append(_Fact("shape", item.shape, (*(("object",) if is_alone else ()), *coloured_name)))
    if scene.has_size:
        facts.append(_Fact("size", scene.actor.size, _names(scene, scene.actor), alternatives=SIZES))
    facts += [_Fact("background", scene.background), _Fact("texture", TEXTURE_WORDS[scene.texture])]
    if scene.has_number:
        facts.append(_Fact("number", NUMBERS[len(items) - 1]))
    if pairs := scene.left_of():
        facts.append(_relation(scene, *rng.choice(pairs), rng))
    return facts


def _relation(scene: Scene, left: SceneItem, right: SceneItem, rng: Random) -> _Fact:
    value = rng.choice(("left", "right"))
    item, other = (left, right) if value == "left" else (right, left)
    other_name = rng.choice(_names(scene, other))
    return _Fact("relation", value, _names(scene, item), other_name, ("left", "right"))


def _names(scene: Scene, item: SceneItem) -> tuple[str, ...]:
    """All names that fit this item alone, in the scene's twin as well."""
    names = (item.shape,)
    if scene.has_colour(item):
        names += (f"{item.colour} {item.shape}", f"{item.colour} object")
    return ("object", *names) if len(scene.items) == 1 else names


def _worded(fact: _Fact, rng: Random, held_out: bool) -> ClipQuestion:
    kind = fact.wording.split()[0]
    # sorted first: the order in the question must not give the answer away
    pair = sorted(fact.alternatives)
    rng.shuffle(pair)
    shown = [_happening(verb) for verb in pair] if kind == "order" else pair
    words = {"it": rng.choice(fact.names), "other": fact.other, **dict(zip("ab", shown, strict=False))}
    wording = QUESTIONS[fact.wording]
    text = wording.choose(rng, held_out).format(**words)
    # a question is always answered in the same words, so that a model can be checked token by token
    answer = Random(text).choice(wording.answers)
    sentence = answer.format(**words, **_answer_words(kind, fact.value))
    return ClipQuestion(kind, text, _phrase(kind, fact.value), f"{sentence[0].upper()}{sentence[1:]}.")


def _phrase(kind: str, value: str) -> str:
    return _happening(value) if kind in {"pace", "change", "resize", "order"} else value


def _answer_words(kind: str, value: str) -> dict[str, str]:
    words = {"value": value, "does": third_person(value)}
    if kind == "count":
        words["times"] = TIMES[NUMBERS.index(value)]
    if kind == "number":
        is_one = value == NUMBERS[0]
        words |= {"are": "is" if is_one else "are", "objects": f"{value} object{'' if is_one else 's'}"}
    return words
