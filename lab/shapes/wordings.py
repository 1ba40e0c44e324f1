"""Words, and how each kind of question can be worded and answered in a sentence.

{it} is the item asked about, {other} the one it is compared with, {a} and {b} the alternatives in random
order. A kind of two words asks about one end of an event: "order last" is the kind "order". Answers hold
{value}, the answer as a bare word; {does}, as a verb of the third person; or how many there are. The held-out
wordings use no word that the others lack.
"""

from dataclasses import dataclass
from random import Random

NUMBERS = ("one", "two", "three", "four")
TIMES = ("once", "twice", "three times", "four times")
TEXTURE_WORDS = {"plain": "plain", "stripes": "striped", "dots": "dotted", "checks": "checked"}


@dataclass(frozen=True, slots=True)
class Templates:
    """Ways to say or ask one thing; `held_out` ones are for tests only, `answers` are sentences."""

    train: tuple[str, ...]
    held_out: tuple[str, ...]
    answers: tuple[str, ...] = ()

    def choose(self, rng: Random, held_out: bool) -> str:
        return rng.choice(self.held_out if held_out else self.train)


def templates(*train: str, held_out: tuple[str, ...], answers: tuple[str, ...] = ()) -> Templates:
    """Return these ways to say or ask one thing."""
    return Templates(train, held_out, answers)


def third_person(verb: str) -> str:
    """Speed up -> speeds up."""
    first, *rest = verb.split()
    return " ".join((f"{first}s", *rest))


def with_article(noun: str) -> str:
    """Orange ring -> an orange ring."""
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"


# open questions, which a caption answers
DESCRIPTIONS = templates(
    "what happens here?",
    "what can you see here?",
    "what do you see here?",
    "what is there?",
    held_out=("what can you see?", "what do you see?"),
)

QUESTIONS = {
    "direction": templates(
        "which way does the {it} move?",
        "in which direction does the {it} move?",
        "where does the {it} go?",
        "does the {it} move {a} or {b}?",
        "what direction is the {it} moving?",
        held_out=("which direction does the {it} go?", "which way is the {it} moving?"),
        answers=("the {it} moves {value}", "it moves {value}", "the {it} goes {value}"),
    ),
    "pace": templates(
        "does the {it} {a} or {b}?",
        "what happens to the speed, does the {it} {a} or {b}?",
        "is the {it} getting faster or slower?",
        "how does the speed of the {it} change?",
        "while it moves, does the {it} {a} or {b}?",
        held_out=("how does the {it} change its speed?", "what happens to the {it}, does it {a} or {b}?"),
        answers=("the {it} {does}", "it {does}", "the {it} {does} while it moves"),
    ),
    "change": templates(
        "does the {it} {a} or {b}?",
        "what happens to the {it}, does it {a} or {b}?",
        "what does the {it} do, {a} or {b}?",
        "what happens to the {it}?",
        held_out=("what happens, does the {it} {a} or {b}?", "the {it}, does it {a} or {b}?"),
        answers=("the {it} {does}", "it {does}", "you can see that the {it} {does}"),
    ),
    "resize": templates(
        "does the {it} {a} or {b}?",
        "what happens to the {it}, does it {a} or {b}?",
        "is the {it} getting larger or smaller?",
        "how does the {it} change its size?",
        "what happens to the size of the {it}?",
        held_out=("how does the size of the {it} change?", "what does the {it} do, {a} or {b}?"),
        answers=("the {it} {does}", "it {does}", "the size changes, the {it} {does}"),
    ),
    "recolour first": templates(
        "what colour is the {it} at first?",
        "which colour does the {it} have at first?",
        "what colour is the {it} before it changes?",
        "what color does the {it} have at the start?",
        "is the {it} {a} or {b} at first?",
        held_out=("at first, what colour does the {it} have?", "which colour is the {it} at the start?"),
        answers=(
            "the {it} is {value} at first",
            "at first it is {value}",
            "before it changes, the {it} is {value}",
        ),
    ),
    "recolour last": templates(
        "what colour is the {it} at the end?",
        "which colour does the {it} have at the end?",
        "what colour does the {it} turn?",
        "what color does the {it} become?",
        "is the {it} {a} or {b} at the end?",
        held_out=("at the end, what colour does the {it} have?", "which colour is the {it} at the end?"),
        answers=("the {it} is {value} at the end", "at the end it is {value}", "the {it} turns {value}"),
    ),
    "order first": templates(
        "what happens first, {a} or {b}?",
        "which comes first, {a} or {b}?",
        "what does the {it} do first, {a} or {b}?",
        "what is the first thing that happens, {a} or {b}?",
        "what does the {it} do first?",
        held_out=("which happens first, {a} or {b}?", "what comes first, {a} or {b}?"),
        answers=("first the {it} {does}", "the {it} {does} first", "the first thing is that it {does}"),
    ),
    "order last": templates(
        "what happens last, {a} or {b}?",
        "which comes second, {a} or {b}?",
        "what does the {it} do last, {a} or {b}?",
        "what happens after the first thing, {a} or {b}?",
        "what does the {it} do after that first thing?",
        held_out=("which happens last, {a} or {b}?", "what comes second, {a} or {b}?"),
        answers=("the {it} {does} last", "at the end the {it} {does}", "second the {it} {does}"),
    ),
    "count": templates(
        "how many times does the {it} blink?",
        "how often does the {it} blink?",
        "how many times is the {it} gone?",
        "what is the number of times that the {it} blinks?",
        "count how often the {it} blinks",
        held_out=("how often is the {it} gone?", "how many times can you see the {it} blink?"),
        answers=("the {it} blinks {times}", "it blinks {times}", "you can see it blink {times}"),
    ),
    "rotate": templates(
        "which way does the {it} turn?",
        "in which direction does the {it} rotate?",
        "does the {it} turn {a} or {b}?",
        "does the {it} spin {a} or {b}?",
        "which way does the {it} spin?",
        held_out=("which direction does the {it} turn?", "does the {it} rotate {a} or {b}?"),
        answers=("the {it} turns {value}", "it rotates {value}", "the {it} spins {value}"),
    ),
    "colour": templates(
        "what colour is the {it}?",
        "what color is the {it}?",
        "which colour does the {it} have?",
        "what is the colour of the {it}?",
        held_out=("which colour is the {it}?", "what colour does the {it} have?"),
        answers=("the {it} is {value}", "it is {value}", "the colour of the {it} is {value}"),
    ),
    "shape": templates(
        "what shape is the {it}?",
        "which shape does the {it} have?",
        "what is the shape of the {it}?",
        "what kind of shape is the {it}?",
        held_out=("which shape is the {it}?", "what shape does the {it} have?"),
        answers=("the {it} is a {value}", "it is a {value}", "the shape of the {it} is a {value}"),
    ),
    "background": templates(
        "what colour is the background?",
        "what color is the background?",
        "which colour does the background have?",
        "what is the colour of the background?",
        "what is the background colour?",
        held_out=("which colour is the background?", "what colour does the background have?"),
        answers=(
            "the background is {value}",
            "the colour of the background is {value}",
            "it is a {value} background",
        ),
    ),
    "size": templates(
        "is the {it} {a} or {b}?",
        "what size is the {it}?",
        "how large is the {it}?",
        "which size does the {it} have?",
        held_out=("which size is the {it}?", "what is the size of the {it}?"),
        answers=("the {it} is {value}", "it is {value}", "it is a {value} object"),
    ),
    "texture": templates(
        "what is the pattern of the background?",
        "which pattern does the background have?",
        "is the background plain, striped, dotted or checked?",
        "what pattern is on the background?",
        "what kind of pattern does the background have?",
        held_out=("which pattern is on the background?", "what pattern does the background have?"),
        answers=(
            "the background is {value}",
            "the pattern of the background is {value}",
            "it is a {value} background",
        ),
    ),
    "number": templates(
        "how many objects are there?",
        "how many objects can you see?",
        "what is the number of objects?",
        "count the objects",
        "how many things are there?",
        held_out=("how many things can you see?", "what number of objects can you see?"),
        answers=("there {are} {objects}", "you can see {objects}", "the number of objects is {value}"),
    ),
    "relation": templates(
        "which side of the {other} is the {it} on?",
        "is the {it} {a} or {b} of the {other}?",
        "on which side of the {other} is the {it}?",
        "where is the {it}, {a} or {b} of the {other}?",
        held_out=(
            "which side of the {other} is the {it} on, {a} or {b}?",
            "where is the {it}, on which side of the {other}?",
        ),
        answers=(
            "the {it} is {value} of the {other}",
            "it is {value} of the {other}",
            "the {it} is on the {value} side of the {other}",
        ),
    ),
}
