"""What the web process asks, as values of the model side."""

from bt_model.types import GenerateOptions, Turn
from server.engine import wire


def turns_of(ask: wire.Ask) -> tuple[Turn, ...]:
    """The dialogue."""
    return tuple(Turn(role, text) for role, text in ask.turns)  # pyright: ignore[reportArgumentType] - checked by the web side's schema


def options_of(ask: wire.Ask) -> GenerateOptions:
    """Those that were given."""
    given = dict(ask.options)
    stop = tuple(given.pop("stop", ()))  # lists on the wire
    bias = tuple((number, value) for number, value in given.pop("logit_bias", ()))
    return GenerateOptions(**given, stop=stop, logit_bias=bias)
