"""What the web process asks, as values of the model side."""

from typing import TypedDict

from bt_model.grammar.grammars import Grammar
from bt_model.types import GenerateOptions, Turn
from server.engine import wire


class RequestTerms(TypedDict):
    """Of a request beside what its client said."""

    grammar: Grammar | None
    deadline: float


def turns_of(ask: wire.Ask) -> tuple[Turn, ...]:
    """The dialogue."""
    return tuple(Turn(role, text) for role, text in ask.turns)  # pyright: ignore[reportArgumentType] - checked by the web side's schema


def options_of(ask: wire.Ask) -> GenerateOptions:
    """Those that were given."""
    given = dict(ask.options)
    stop = tuple(given.pop("stop", ()))  # lists on the wire
    bias = tuple((number, value) for number, value in given.pop("logit_bias", ()))
    return GenerateOptions(**given, stop=stop, logit_bias=bias)
