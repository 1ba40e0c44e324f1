"""Answers in the engine process: each with a borrowed model, from its question to its last piece."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING

import torch

from bt_model.errors import EngineError
from bt_model.generation.request import Delta, Event, GenRequest, GenTiming
from bt_model.types import GenerateOptions, Turn, Usage, VideoTokens
from server.engine.wire import Ask, Done, Message, Piece
from server.worker.models import LoadedModel, ModelPool
from server.worker.thread import WorkThread

if TYPE_CHECKING:
    from torch import Tensor

Send = Callable[[Message], None]


class Answering:
    """Answers questions; `tokens_of` gives the pooled tokens of a key."""

    def __init__(self, models: ModelPool, tokens_of: "Callable[[bytes], Tensor]", send: Send) -> None:
        self._models = models
        self._tokens_of = tokens_of
        self._send = send
        self._prompts = WorkThread("prompts")  # a long dialogue must not keep the others waiting
        self._running: dict[str, LoadedModel] = {}  # the questions that a generation thread knows

    async def answer(self, ask: Ask) -> Done:
        """Send the pieces of an answer as they come; its model is given back before this returns.

        Raises:
            InvalidValueError: an option out of range, or a dialogue that makes no prompt.
            FeaturesMissingError: the video's tokens are not cached any more.
            EngineError: the model cannot be had, or failed.
        """
        options = _options_of(ask)
        deadline = time.monotonic() + ask.timeout
        async with self._models.borrowed([ask.model]) as lease:
            model = lease.model(ask.model)
            video = VideoTokens(ask.key, self._tokens_of(ask.key)) if ask.key else None
            request = await self._prompts.run(_request_of, ask, options, model, video, deadline)
            self._running[ask.id] = model
            try:
                return await self._generate(request, options, model)
            finally:
                del self._running[ask.id]

    def cancel(self, request_id: str) -> bool:
        """End an answer within one step of its model; False where no generation thread knows it."""
        model = self._running.get(request_id)
        if model is not None:
            model.engine.cancel(request_id)
        return model is not None

    async def _generate(self, request: GenRequest, options: GenerateOptions, model: LoadedModel) -> Done:
        text = model.chat.text_stream(options)
        events: asyncio.Queue[Event] = asyncio.Queue()
        loop = asyncio.get_running_loop()

        def put(event: Event) -> None:
            """Called on the engine's thread."""
            loop.call_soon_threadsafe(events.put_nowait, event)

        model.engine.submit(request, put)
        while isinstance(event := await events.get(), Delta):
            if piece := text.push(event.token_ids):
                self._send(Piece(request.id, piece, len(event.token_ids)))
            if text.stopped:
                model.engine.cancel(request.id)
        if event.reason == "error":
            raise EngineError(event.message)
        if rest := text.finish():
            self._send(Piece(request.id, rest, 0))
        usage = Usage(event.num_prompt, event.num_new, request.num_video_tokens, event.num_cached)
        reason = "stop" if text.stopped else event.reason
        return Done(request.id, reason, asdict(usage), asdict(event.timing))


def cancelled(request_id: str) -> Done:
    """The end of an answer that no generation thread had heard of."""
    timing = GenTiming(queue=0.0, prefill=0.0, decode=0.0)
    return Done(request_id, "cancelled", asdict(Usage(0, 0)), asdict(timing))


def _options_of(ask: Ask) -> GenerateOptions:
    given = dict(ask.options)
    stop = tuple(given.pop("stop", ()))  # a list on the wire
    return GenerateOptions(**given, stop=stop)


@torch.inference_mode()
def _request_of(
    ask: Ask, options: GenerateOptions, model: LoadedModel, video: VideoTokens | None, deadline: float
) -> GenRequest:
    turns = tuple(Turn(role, text) for role, text in ask.turns)  # pyright: ignore[reportArgumentType] - checked by the web side's schema
    return model.chat.request(turns, video, options, request_id=ask.id, deadline=deadline)
