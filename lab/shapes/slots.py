"""A judge without a model: the one value that an answer names, read out of a phrase or a sentence.

An answer that names no value, names two or denies one does not count: it may be a guess.
"""

import re

from bt_model.errors import require
from lab.shapes.events import DIRECTIONS, PULSES
from lab.shapes.questions import ClipQuestion
from lab.shapes.scene import BACKGROUNDS, COLOURS, SHAPES

_NEGATION = re.compile(r"\b(?:no|not|never|neither|nor|none|nothing|cannot|without)\b|n't\b")
_SPELLINGS = (
    (re.compile("\u2019"), "'"),
    (re.compile(r"\bgrey\b"), "gray"),
    (re.compile(r"\b(?:counter|anti)[- ]?clockwise\b"), "counterclockwise"),
    (re.compile(r"\bappears? to (?!the\b|your\b)"), ""),  # "it appears to move": nothing appears
    (re.compile(r"[-_]"), " "),
)
# words of direction that name none: where something came from; to speed up, to slow down
_NO_DIRECTION = re.compile(
    r"\bfrom (?:\w+ ){1,4}?(?:to|towards?)\b|\b(?:speed|slow|show|end|start)\w* (?:up|down)\b"
)

_NUMBER_FORMS = {
    "one": r"one|1|once|a single|only a",
    "two": r"two|2|twice",
    "three": r"three|3|thrice",
    "four": r"four|4",
}
_DIRECTION_FORMS = {
    "left": r"left(?:wards?)?",
    "right": r"right(?:wards?)?",
    "up": r"up(?:wards?|per)?|top",
    "down": r"down(?:wards?)?|lower|bottom",
}
_GROWS = r"gr[eo]w\w*|(?:gets?|getting|becom\w+) (?:larger|bigger)|expand\w*|enlarg\w*"
_FORMS: dict[str, dict[str, str]] = {
    "direction": _DIRECTION_FORMS,
    "pace": {
        "speed up": r"(?:speed|sped|pick)\w*(?: \w+)? up|accelerat\w+|faster",
        "slow down": r"slow\w*(?: \w+)? down|decelerat\w+|slower",
    },
    "change": {
        "appear": r"appear\w*|shows? up|comes? into view",
        "disappear": r"disappear\w*|vanish\w*|goes away|fades? out",
    },
    "resize": {"grow": f"{_GROWS}|larger|bigger", "shrink": r"shr[aiu]nk\w*|smaller"},
    "recolour": {colour: colour for colour in COLOURS},
    "order": {
        **{pulse: rf"{pulse}\w*" for pulse in PULSES},
        "grow": _GROWS,
        "jump": r"jump\w*|hop(?:s|ped|ping)?",
        "sway": r"sway\w*|sw[iu]ng\w*",
    },
    "count": _NUMBER_FORMS,
    "rotate": {"clockwise": "clockwise", "counterclockwise": "counterclockwise"},
    "colour": {colour: colour for colour in COLOURS},
    "shape": {
        **{shape: f"{shape}s?" for shape in SHAPES},
        "circle": r"circles?|circular",
        "cross": r"cross(?:es)?",
    },
    "size": {"small": r"small|little|tiny", "large": r"large|big|huge"},
    "background": {**{ground: ground for ground in BACKGROUNDS}, "navy": r"navy(?: blue)?|dark blue"},
    "texture": {
        "plain": r"plain|solid|uniform",
        "striped": r"strip(?:ed|es?|y)",
        "dotted": r"dot(?:ted|s)?",
        "checked": r"check(?:ed|s|ered)?|chequered",
    },
    "number": _NUMBER_FORMS,
    "relation": {side: _DIRECTION_FORMS[side] for side in DIRECTIONS[:2]},
}
_READERS = {
    kind: {value: re.compile(rf"\b(?:{form})\b") for value, form in forms.items()}
    for kind, forms in _FORMS.items()
}


def slot(kind: str, text: str, question: str = "") -> str | None:
    """Return the one value that an answer to a question of this kind names, in its bare form.

    Args:
        kind: one of the question kinds.
        text: a phrase or a sentence: "it disappears", "Disappears.", "The circle vanishes." give "disappear".
        question: what was asked; a single value that it names, as in "the red circle", is a name of the item
            and counts only if the answer holds no other.

    Raises:
        InvalidValueError: no such kind.
    """
    require(kind in _READERS, "kind", kind, f"one of {', '.join(_READERS)}")
    plain = _plain(text)
    if _NEGATION.search(plain):
        return None
    found = _values(kind, plain)
    named = _values(kind, _plain(question))
    if len(named) == 1 and len(found) > 1:
        found -= named
    return found.pop() if len(found) == 1 else None


def is_right(question: ClipQuestion, answer: str) -> bool:
    """Tell whether an answer in any words names the true value and nothing else."""
    return slot(question.kind, answer, question.text) == slot(question.kind, question.answer)


def _plain(text: str) -> str:
    plain = text.lower()
    for spelling, usual in _SPELLINGS:
        plain = spelling.sub(usual, plain)
    return plain


def _values(kind: str, plain: str) -> set[str]:
    text = _NO_DIRECTION.sub(" ", plain) if kind == "direction" else plain
    found = {value for value, form in _READERS[kind].items() if form.search(text)}
    return _diagonal(found) if kind == "direction" else found


def _diagonal(found: set[str]) -> set[str]:
    """Up and left are one direction; up and down are two."""
    across, along = found & {*DIRECTIONS[:2]}, found & {*DIRECTIONS[2:]}
    if len(across) == len(along) == 1:
        return {f"{along.pop()} {across.pop()}"}
    return found
