"""What the web process asks, as values of the model side."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TypedDict, Unpack

import torch

from bt_model.generation.request import GenRequest
from bt_model.grammar.grammars import Grammar
from bt_model.types import GenerateOptions, Turn, VideoTokens
from server.engine import wire

if TYPE_CHECKING:
    from bt_model.chat import VideoChat


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


@torch.inference_mode()
def request_of(
    ask: wire.Ask,
    chat: "VideoChat",
    options: GenerateOptions,
    videos: Sequence[VideoTokens],
    **more: Unpack[RequestTerms],
) -> GenRequest:
    """The engine's request, in the thread of prompts; raises as `VideoChat.request`."""
    request = chat.request(turns_of(ask), videos, options, request_id=ask.id, **more)
    return replace(request, owner=ask.owner.encode())
