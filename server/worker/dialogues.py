"""A question of the web process as the generation engine takes it."""

from dataclasses import asdict, replace

import torch

from bt_model.generation.request import GenRequest, GenTiming
from bt_model.types import GenerateOptions, Turn, Usage, VideoTokens
from server.engine import wire
from server.worker.models import LoadedModel


def cancelled(request_id: str) -> wire.Done:
    """The end of an answer that no generation thread had heard of."""
    timing = GenTiming(queue=0.0, prefill=0.0, decode=0.0)
    return wire.Done(request_id, "cancelled", asdict(Usage(0, 0)), asdict(timing))


def options_of(ask: wire.Ask) -> GenerateOptions:
    given = dict(ask.options)
    stop = tuple(given.pop("stop", ()))  # a list on the wire
    return GenerateOptions(**given, stop=stop)


@torch.inference_mode()
def request_of(
    ask: wire.Ask, options: GenerateOptions, model: LoadedModel, video: VideoTokens | None, deadline: float
) -> GenRequest:
    turns = tuple(Turn(role, text) for role, text in ask.turns)  # pyright: ignore[reportArgumentType] - checked by the web side's schema
    request = model.chat.request(turns, video, options, request_id=ask.id, deadline=deadline)
    return replace(request, owner=ask.owner.encode())
