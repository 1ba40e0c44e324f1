"""Answers on their way out of the engine process: each with a borrowed model, each ended exactly once."""

import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING, Any

import torch

from bt_model.errors import BtchatError
from bt_model.generation.request import Delta, Event, Finish
from bt_model.types import GenerateOptions, Turn, Usage, VideoTokens
from server.engine.errors import failed
from server.engine.wire import Ask, Done, Failed, Message, Piece
from server.worker.models import Lease, LoadedModel, Models, failure_of

if TYPE_CHECKING:
    from bt_model.prompt.text_stream import TextStream

Send = Callable[[Message], None]
TokensOf = Callable[[bytes], "torch.Tensor"]

_NO_USAGE = asdict(Usage(0, 0))
_NO_SECONDS = {"queue": 0.0, "prefill": 0.0, "decode": 0.0}


class _Ticket:
    """A question that waits for its model, or is answered by it."""

    def __init__(self, message: Ask) -> None:
        self.message = message
        self.options = GenerateOptions(**_with_tuples(message.options))
        self.deadline = time.monotonic() + message.timeout
        self.model: LoadedModel | None = None
        self.is_cancelled = False

    def is_wanted(self) -> bool:
        return not self.is_cancelled


class Answers:
    """The questions in flight. A model stays borrowed from when it is had until its answer has ended."""

    def __init__(self, models: Models, tokens_of: TokensOf, send: Send) -> None:
        self._models = models
        self._tokens_of = tokens_of
        self._send = send
        self._tickets: dict[str, _Ticket] = {}
        self._lock = Lock()  # of the tickets: main, loader and generation threads use them

    def ask(self, message: Ask) -> None:
        """Begin an answer, now or once its model is loaded.

        Raises:
            InvalidValueError: an option out of range.
            UnknownNameError: no such model.
        """
        ticket = _Ticket(message)
        with self._lock:
            self._tickets[message.id] = ticket
        try:
            self._models.borrow([message.model], partial(self._begin, ticket), ticket.is_wanted)
        except BtchatError:
            self._end(message.id)
            raise

    def cancel(self, request_id: str) -> None:
        """End an answer soon; one that has ended is fine."""
        with self._lock:
            ticket = self._tickets.get(request_id)
            if ticket is None:
                return
            ticket.is_cancelled = True
        if ticket.model is not None:
            ticket.model.engine.cancel(request_id)

    def _begin(self, ticket: _Ticket, lease: Lease) -> None:
        """On the main thread, or on the loader's if the model had to be loaded."""
        message = ticket.message
        ticket.model = lease.models.get(message.model)
        if ticket.model is None:
            self._end(message.id)
            error = failure_of(lease, message.model)
            self._send(_cancelled(message.id) if ticket.is_cancelled else failed(message.id, error))
            return
        try:
            self._submit(ticket, ticket.model)
        except Exception as error:  # noqa: BLE001 - one bad request must not take its neighbours down
            self._end(message.id)
            self._send(failed(message.id, error))
            return
        if ticket.is_cancelled:  # while it was not yet known to the engine
            ticket.model.engine.cancel(message.id)

    @torch.inference_mode()
    def _submit(self, ticket: _Ticket, model: LoadedModel) -> None:
        message, options = ticket.message, ticket.options
        turns = tuple(Turn(role, text) for role, text in message.turns)  # pyright: ignore[reportArgumentType] - checked by the web side's schema
        video = VideoTokens(message.key, self._tokens_of(message.key)) if message.key else None
        request = model.chat.request(turns, video, options, request_id=message.id, deadline=ticket.deadline)
        answer = _Answer(
            message.id,
            model.chat.text_stream(options),
            request.num_video_tokens,
            self._send,
            cancel=partial(model.engine.cancel, message.id),
            end=partial(self._end, message.id),
        )
        model.engine.submit(request, answer.on_event)

    def _end(self, request_id: str) -> None:
        with self._lock:
            ticket = self._tickets.pop(request_id)
        if ticket.model is not None:
            self._models.give_back([ticket.model])


class _Answer:
    """Engine events in, pieces and exactly one terminal message out; `end` is called before that one."""

    def __init__(
        self,
        request_id: str,
        text: "TextStream",
        num_video: int,
        send: Send,
        *,
        cancel: Callable[[], None],
        end: Callable[[], None],
    ) -> None:
        self._id = request_id
        self._text = text
        self._num_video = num_video
        self._send = send
        self._cancel = cancel
        self._end = end

    def on_event(self, event: Event) -> None:
        """Called on the engine's thread."""
        match event:
            case Delta(token_ids=ids):
                piece = self._text.push(ids)
                if piece:
                    self._send(Piece(self._id, piece, len(ids)))
                if self._text.stopped:
                    self._cancel()
            case Finish(reason="error"):
                self._end()
                self._send(Failed(self._id, "EngineError", event.message, "engine_error", None))
            case Finish():
                self._end()  # first: who hears of the end may count on the model being free
                if rest := self._text.finish():
                    self._send(Piece(self._id, rest, 0))
                self._send(self._done(event))

    def _done(self, event: Finish) -> Done:
        reason = "stop" if self._text.stopped else event.reason
        usage = Usage(event.num_prompt, event.num_new, self._num_video, event.num_cached)
        return Done(self._id, reason, asdict(usage), asdict(event.timing))


def _with_tuples(options: dict[str, Any]) -> dict[str, Any]:
    return {**options, "stop": tuple(options.get("stop", ()))}


def _cancelled(request_id: str) -> Done:
    """The end of a question that nobody waits for any more."""
    return Done(request_id, "cancelled", _NO_USAGE, _NO_SECONDS)
