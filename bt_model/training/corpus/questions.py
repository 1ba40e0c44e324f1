"""What can be asked about a scene, and the one right answer to each question.

A picture that shows an event by a cue is asked the questions of a clip that shows it in time. A scene
and its twin are asked the same questions when they start from equal random states; only the temporal answers
differ.
"""

from dataclasses import dataclass
from random import Random

from bt_model.training.corpus.captions import Templates
from bt_model.training.corpus.scene import Change, Event, Move, Order, Scene, Still

TEMPORAL = ("direction", "change", "order")
STATIC = ("colour", "shape", "background", "size")

QUESTIONS = {
    "direction": Templates(
        train=(
            "which way does the {it} move?",
            "in which direction does the {it} move?",
            "where does the {it} go?",
            "does the {it} move left, right, up or down?",
            "what direction is the {it} moving?",
        ),
        held_out=("which direction does the {it} go?", "which way is the {it} moving?"),
    ),
    "change": Templates(
        train=(
            "does the {it} appear or disappear?",
            "does the {it} disappear or appear?",
            "what happens to the {it}, does it appear or disappear?",
            "what does the {it} do, appear or disappear?",
        ),
        held_out=(
            "what does the {it} do, disappear or appear?",
            "what happens to the {it}, does it disappear or appear?",
        ),
    ),
    "order": Templates(
        train=(
            "what happens first, {a} or {b}?",
            "which comes first, {a} or {b}?",
            "what does the {it} do first, {a} or {b}?",
            "what is the first thing that happens, {a} or {b}?",
            "what does the {it} do first?",
        ),
        held_out=("which happens first, {a} or {b}?", "what comes first, {a} or {b}?"),
    ),
    "colour": Templates(
        train=(
            "what colour is the {it}?",
            "what color is the {it}?",
            "which colour does the {it} have?",
            "what is the colour of the {it}?",
        ),
        held_out=("which colour is the {it}?", "what colour does the {it} have?"),
    ),
    "shape": Templates(
        train=(
            "what shape is the {it}?",
            "which shape does the {it} have?",
            "what is the shape of the {it}?",
            "what kind of shape is the {it}?",
        ),
        held_out=("which shape is the {it}?", "what shape does the {it} have?"),
    ),
    "background": Templates(
        train=(
            "what colour is the background?",
            "what color is the background?",
            "which colour does the background have?",
            "what is the colour of the background?",
            "what is the background colour?",
        ),
        held_out=("which colour is the background?", "what colour does the background have?"),
    ),
    "size": Templates(
        train=(
            "is the {it} small or large?",
            "is the {it} large or small?",
            "what size is the {it}?",
            "how large is the {it}?",
        ),
        held_out=("which size is the {it}?", "what is the size of the {it}?"),
    ),
}


@dataclass(frozen=True, slots=True)
class Question:
    """A question about one scene with its exact answer."""

    kind: str
    text: str
    answer: str

    @property
    def is_temporal(self) -> bool:
        return self.kind in TEMPORAL


def questions(scene: Scene, rng: Random, *, held_out: bool = False) -> list[Question]:
    """Ask one question of each kind that the scene answers, the temporal one first."""
    return [
        Question(kind, _ask(kind, scene, rng, held_out), answer) for kind, answer in answers(scene).items()
    ]


def answers(scene: Scene) -> dict[str, str]:
    """Return the right answer to every kind of question that the scene answers."""
    item = scene.item
    known = _temporal_answer(scene.event) | {
        "colour": item.colour,
        "shape": item.shape,
        "background": scene.background,
    }
    if not isinstance(scene.event, Order):  # there the item grows, or is drawn small in a strip
        known["size"] = item.size
    return known


def _temporal_answer(event: Event) -> dict[str, str]:
    match event:
        case Move():
            return {"direction": event.direction}
        case Change():
            return {"change": happening(event.word)}
        case Order():
            return {"order": happening(event.first.name)}
        case Still():
            return {}


def happening(verb: str) -> str:
    """Return an event as questions and answers call it."""
    return f"it {verb}s"


def _ask(kind: str, scene: Scene, rng: Random, held_out: bool) -> str:
    template = QUESTIONS[kind].choose(rng, held_out)
    item = scene.item
    names = {
        "colour": ("object", item.shape),
        "shape": ("object", f"{item.colour} object"),
    }.get(kind, ("object", item.shape, f"{item.colour} {item.shape}", f"{item.colour} object"))
    words = {"it": rng.choice(names)}
    if isinstance(scene.event, Order):
        # sorted first: the order in the question must not give the answer away
        pair = sorted((scene.event.first.name, scene.event.second.name))
        rng.shuffle(pair)
        words |= {"a": happening(pair[0]), "b": happening(pair[1])}
    return template.format(**words)
