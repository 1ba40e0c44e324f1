"""The length of a prompt, without its answer."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from bt_model.generation.request import GenRequest
from bt_model.types import Place, Turn, VideoTokens
from server.engine import wire

if TYPE_CHECKING:
    from bt_model.chat import VideoChat
    from server.worker.models import ModelPool
    from server.worker.thread import WorkThread


async def measured(message: wire.Measure, models: "ModelPool", prompts: "WorkThread") -> wire.Measured:
    """Lay out a prompt as for an answer, around videos whose tokens are zeros, and count it.

    Raises:
        ContextLengthError: the text is longer than what is tokenised.
        BtchatError: the model cannot be had, or the dialogue is none.
    """
    turns = [Turn(role, text) for role, text in message.turns]  # pyright: ignore[reportArgumentType] - checked by the web side's schema
    places = [Place(turn, at) for turn, at in message.videos]
    async with models.borrowed([message.model]) as lease:
        chat = lease.model(message.model).chat
        length = sum(len(turn.text) for turn in turns)
        num_prompt, num_video = await prompts.run(_counted, chat, turns, places, weight=length)
    return wire.Measured(message.id, num_prompt, num_video)


def _counted(chat: "VideoChat", turns: Sequence[Turn], places: Sequence[Place]) -> tuple[int, int]:
    weight = chat.encoder.tower.class_embedding  # the pooled tokens have its format
    zeros = torch.zeros(
        chat.card.num_video_tokens, chat.card.video_dim, dtype=weight.dtype, device=weight.device
    )
    segments = chat.backend.segments(turns, [VideoTokens(b"", zeros, place) for place in places])
    request = GenRequest("", segments, max_new_tokens=1, stop_token_ids=frozenset())
    return request.num_prompt_tokens, request.num_video_tokens
