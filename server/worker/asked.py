"""What the web process asks, as values of the model side."""

from collections.abc import Sequence
from dataclasses import replace

import torch

from bt_model.generation.request import GenRequest
from bt_model.grammar.grammars import Grammar
from bt_model.types import GenerateOptions, Turn, VideoTokens
from server.engine import wire
from server.worker.loaded import LoadedModel


def options_of(ask: wire.Ask) -> GenerateOptions:
    """Those that were given."""
    given = dict(ask.options)
    stop = tuple(given.pop("stop", ()))  # lists on the wire
    bias = tuple((number, value) for number, value in given.pop("logit_bias", ()))
    return GenerateOptions(**given, stop=stop, logit_bias=bias)


@torch.inference_mode()
def request_of(
    ask: wire.Ask,
    options: GenerateOptions,
    model: LoadedModel,
    videos: Sequence[VideoTokens],
    grammar: Grammar | None,
    deadline: float,
) -> GenRequest:
    """The engine's request; raises as `VideoChat.request`."""
    turns = tuple(Turn(role, text) for role, text in ask.turns)  # pyright: ignore[reportArgumentType] - checked by the web side's schema
    request = model.chat.request(
        turns, videos, options, request_id=ask.id, deadline=deadline, grammar=grammar
    )
    return replace(request, owner=ask.owner.encode())
