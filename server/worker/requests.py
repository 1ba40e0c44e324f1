"""Requests of the web process: each works on a task of its own and has one terminal message.

One event loop owns the socket and all state; threads load models, build prompts, encode and generate.
"""

import asyncio
import contextlib
import logging
import math
import socket
import time
from collections.abc import Callable, Coroutine, Sequence
from contextvars import copy_context
from dataclasses import asdict, replace
from functools import partial
from typing import Any

import torch

from bt_model.errors import EngineError
from bt_model.generation.faults import breaks_device
from bt_model.generation.request import Delta, Event, GenRequest
from bt_model.grammar.schema import refused
from bt_model.types import GenerateOptions, Place, VideoTokens
from server.engine import wire
from server.engine.channel import Channel
from server.engine.errors import failed, fields_of
from server.engine.usage import Usage
from server.engine.wire import Message
from server.log.request import begin
from server.worker.asked import options_of, turns_of
from server.worker.live import LiveWindows
from server.worker.loaded import LoadedModel, Loader
from server.worker.measure import measured
from server.worker.memory import memory_stats
from server.worker.messages import cancelled, read_frames, stats_of, token_data
from server.worker.models import ModelPool
from server.worker.pieces import AnswerPieces
from server.worker.schemas import SchemaCompiler
from server.worker.thread import WorkThread
from server.worker.token_cache import TokenCache
from server.worker.token_file import PooledTokens
from server.worker.vision import VisionBatcher
from server.worker.watchdog import find_fault

log = logging.getLogger(__name__)

_WATCH_SECONDS = 0.25
_LAST_SECONDS = 1.0  # for answers that were cut off to say so


class Worker:
    """The models of this process and the requests in flight; made on a running event loop."""

    def __init__(
        self,
        loader: Loader,
        sock: socket.socket,
        *,
        tokens: TokenCache,
        max_model_bytes: int | None = None,
        watchdog_seconds: float = math.inf,
        max_live_bytes: int = 0,
    ) -> None:
        self._watchdog_seconds = watchdog_seconds
        self._tokens = tokens
        self._models = ModelPool(loader, self._report, self._tell_loading, max_bytes=max_model_bytes)
        self._vision = VisionBatcher()
        self._live = LiveWindows(self._models, self._vision, tokens, max_live_bytes)
        self._prompts = WorkThread("prompts")  # a long dialogue must not keep the others waiting
        self._schemas = SchemaCompiler()
        self._requests: dict[str, asyncio.Task[Message | None]] = {}
        self._encoding: dict[str, set[bytes]] = {}  # the keys that a request is to fill, if not forgotten
        self._generating: dict[str, LoadedModel] = {}  # by the requests that a generation thread knows
        self._is_ready = False
        self._encode_seconds = 0.0
        self._drain_seconds = 0.0
        self._fault: str | None = None
        self._ended = asyncio.Event()
        self._channel = Channel(sock, self._receive, self._ended.set)

    async def run(self) -> bool:
        """Load the first model, then serve until the web process sends `Shutdown` or has ended.

        Returns:
            False where this process can no longer answer; the web process starts another.

        Raises:
            BtchatError: the first model cannot be loaded; nothing was sent.
        """
        await self._tokens.store.open()
        card = await self._models.start()
        self._is_ready = True
        self._send(wire.Ready(asdict(card), list(self._models.names)))
        watching = asyncio.create_task(self._watch())
        await self._ended.wait()
        watching.cancel()
        if self._fault is not None:  # a thread that hangs would be waited for in vain
            log.critical("%s; this process ends", self._fault)
            self._channel.close()  # what its end cuts off must not look like answers that were cancelled
            return False
        await self._requests_ended(self._drain_seconds)
        await self._models.stop()
        await self._requests_ended(_LAST_SECONDS)
        await self._tokens.store.close(_LAST_SECONDS)
        await self._channel.flush()
        self._channel.close()
        return True

    async def _watch(self) -> None:
        while self._fault is None:
            await asyncio.sleep(_WATCH_SECONDS)
            threads = (self._vision.thread, self._prompts, self._schemas.thread)
            self._end_for(find_fault(self._models.loaded(), threads, self._watchdog_seconds))

    def _end_for(self, fault: str | None) -> None:
        """End this process, if there is a reason."""
        if fault is not None:
            self._fault = fault
            self._ended.set()

    async def _requests_ended(self, seconds: float) -> None:
        if self._requests:
            await asyncio.wait(self._requests.values(), timeout=seconds)

    def _send(self, message: Message, fds: Sequence[int] = ()) -> None:
        """Send to the web process; that it is gone is noticed elsewhere."""
        with contextlib.suppress(ConnectionError):
            self._channel.send(message, fds)

    def _report(self, names: list[str]) -> None:
        if self._is_ready:  # `Ready` itself says that the first is loaded
            self._send(wire.Holding(names))

    def _tell_loading(self, name: str, number: int, count: int) -> None:
        self._send(wire.Loading(name, number, count))

    def _receive(self, message: Message, fds: list[int]) -> None:
        if isinstance(message, wire.Request):
            self._begin(message.id, self._reply_to(message, fds))
            return
        match message:
            case wire.Cancel(id=id):
                self._cancel(id)
            case wire.LiveClose(session=session):
                self._live.close(session)
            case wire.Forget(prefix=prefix):
                for keys in self._encoding.values():  # what is deleted while it is made is not kept
                    keys -= {key for key in keys if key.startswith(prefix)}
                self._tokens.forget(prefix)
                for model in self._models.loaded():
                    model.engine.forget(prefix)
            case wire.Shutdown(drain=seconds):
                self._drain_seconds = seconds
                self._ended.set()
            case _:
                log.warning("ignored a %s from the web process", type(message).__name__)

    def _reply_to(self, message: wire.Request, fds: list[int]) -> Coroutine[Any, Any, Message | None]:
        if isinstance(message, wire.Encode):
            self._encoding[message.id] = {key for _, key in message.targets}
            return self._encode(message, fds[0])
        if isinstance(message, wire.LiveFrame):
            return self._live.see(message, fds[0])
        work: dict[type[Message], Callable[[Any], Coroutine[Any, Any, Message | None]]] = {
            wire.Ask: self._answer,
            wire.Open: self._open,
            wire.Compile: partial(self._schemas.compiled, models=self._models),
            wire.Lookup: self._lookup,
            wire.Fetch: self._fetch,
            wire.Measure: partial(measured, models=self._models, prompts=self._prompts),
            wire.AskStats: self._stats,
            wire.LiveOpen: self._live.open,
            wire.LiveEncode: self._live.encode,
        }
        return work[type(message)](message)

    def _begin(self, request_id: str, work: Coroutine[Any, Any, Message | None]) -> None:
        """Work on a request beside the others; what it returns or raises is its one terminal message."""
        context = copy_context()
        context.run(begin, request_id.rpartition(".")[0])  # its lines in this process's log
        task = self._requests[request_id] = asyncio.create_task(work, context=context)
        task.add_done_callback(partial(self._end, request_id), context=context)

    def _end(self, request_id: str, task: asyncio.Task[Message | None]) -> None:
        del self._requests[request_id]
        self._encoding.pop(request_id, None)
        if task.cancelled():
            self._send(cancelled(request_id))
        elif (error := task.exception()) is not None:
            self._check_device(error)
            self._send(failed(request_id, error))
        elif (reply := task.result()) is not None:
            self._send(reply)

    def _check_device(self, error: BaseException) -> None:
        if breaks_device(error):
            self._end_for("the accelerator failed")

    def _cancel(self, request_id: str) -> None:
        """End an answer: within one step of its model, or before any generation thread hears of it."""
        if request_id in self._generating:
            self._generating[request_id].engine.cancel(request_id)
        elif request_id in self._requests:
            self._requests[request_id].cancel()

    async def _answer(self, ask: wire.Ask) -> wire.Done:
        """Send the pieces of an answer; its model is given back before the end is sent."""
        options, deadline = options_of(ask), time.monotonic() + ask.timeout
        async with self._models.borrowed([ask.model]) as lease:
            model = lease.model(ask.model)
            videos = [
                VideoTokens(key, (await self._tokens.tokens(key)).tokens, Place(turn, at))
                for key, turn, at in ask.videos
            ]
            grammar = await self._schemas.grammar(model, ask.owner, options.schema)
            length = sum(len(text) for _, text in ask.turns)  # a small question waits for one large at most

            @torch.inference_mode()
            def built() -> GenRequest:
                """In the thread of prompts; raises as `VideoChat.request`."""
                request = model.chat.request(
                    turns_of(ask), videos, options, request_id=ask.id, deadline=deadline, grammar=grammar
                )
                return replace(request, owner=ask.owner.encode())

            request = await self._prompts.run(built, weight=length)
            self._generating[ask.id] = model
            try:
                return await self._generate(request, options, model)
            finally:
                del self._generating[ask.id]

    async def _generate(self, request: GenRequest, options: GenerateOptions, model: LoadedModel) -> wire.Done:
        pieces = AnswerPieces(request, model.chat, options)
        events: asyncio.Queue[Event] = asyncio.Queue()
        loop = asyncio.get_running_loop()

        def put(event: Event) -> None:
            """Called on the engine's thread."""
            loop.call_soon_threadsafe(events.put_nowait, event)

        model.engine.submit(request, put)
        while isinstance(event := await events.get(), Delta):
            if piece := pieces.push(event):
                self._send(piece)
            if pieces.stopped:
                model.engine.cancel(request.id)
        if event.reason == "error":
            raise EngineError(event.message)
        if event.reason == "refused" and options.schema is not None:
            model.grammars.forget(options.schema)
            raise refused(event.message)
        if rest := pieces.finish():
            self._send(rest)
        usage = asdict(Usage(event.num_prompt, event.num_new, request.num_video_tokens, event.num_cached))
        return wire.Done(request.id, "stop" if pieces.stopped else event.reason, usage, asdict(event.timing))

    async def _open(self, message: wire.Open) -> wire.Opened:
        async with self._models.borrowed([message.model]) as lease:
            return wire.Opened(message.id, asdict(lease.model(message.model).chat.card))

    async def _lookup(self, message: wire.Lookup) -> wire.Features:
        entry = await self._tokens.get(message.key)
        return wire.Features(message.id, entry is not None, {} if entry is None else entry.receipt)

    async def _encode(self, message: wire.Encode, fd: int) -> wire.Encoded:
        pixels = read_frames((message.num_frames, message.height, message.width, 3), fd)
        failures: dict[str, list[Any]] = {}
        async with self._models.borrowed([name for name, _ in message.targets]) as lease:
            chats = {name: model.chat for name, model in lease.models.items()}
            made = await self._vision.encode(pixels, chats)
            self._encode_seconds += made.seconds / made.num_clips
            for name, key in message.targets:
                tokens = lease.failures.get(name) or made.tokens[name]
                if isinstance(tokens, Exception):
                    self._check_device(tokens)
                    failures[name] = fields_of(tokens)
                elif key in self._encoding[message.id]:
                    value = PooledTokens(tokens, chats[name].card.fingerprint)
                    self._tokens.put(key, value, message.receipt)
        return wire.Encoded(message.id, failures, made.seconds)

    async def _fetch(self, message: wire.Fetch) -> None:
        reply, fd = token_data(message.id, await self._tokens.tokens(message.key))
        self._send(reply, [fd])

    async def _stats(self, message: wire.AskStats) -> wire.Stats:
        values = {
            **self._tokens.stats(),
            **memory_stats(),
            "engine_encode_seconds_total": self._encode_seconds,
            "tower_encodes_total": float(self._vision.passes.total),
            **self._models.stats(),
            **self._live.stats(),
        }
        models = {each.name: stats_of(each) for each in self._models.loaded() if each.base is None}
        return wire.Stats(message.id, values, models)
