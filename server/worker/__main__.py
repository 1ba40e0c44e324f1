"""The engine process: models, vision batches and generation behind one socket.

Of the service only this file and those that it alone imports load torch. One event loop owns the socket and
all state; threads beside it load models, build prompts, encode clips and generate.
"""

import argparse
import asyncio
import contextlib
import os
import socket
import sys
from collections.abc import Coroutine, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import torch
from safetensors.torch import save

from bt_model.assembly.placement import DTYPES
from bt_model.errors import BtchatError, FeaturesMissingError
from bt_model.types import Quantise
from server.engine import wire
from server.engine.channel import Channel
from server.engine.errors import failed, fields_of
from server.engine.wire import Message
from server.worker.answering import Answering, cancelled
from server.worker.feature_cache import FeatureCache
from server.worker.loader import DiskLoader
from server.worker.models import LoadedModel, ModelPool
from server.worker.vision import VisionBatcher

if TYPE_CHECKING:
    from torch import Tensor

_LAST_SECONDS = 1.0  # for answers that were cut off to say so


@dataclass(frozen=True, slots=True)
class PooledTokens:
    """Pooled tokens (K, D) and the fingerprint of what made them."""

    tokens: "Tensor"
    fingerprint: str


class Worker:
    """The models of this process and the requests in flight; made on a running event loop."""

    def __init__(
        self,
        loader: DiskLoader,
        sock: socket.socket,
        *,
        cache_bytes: int,
        max_model_bytes: int | None = None,
    ) -> None:
        self._cache: FeatureCache[PooledTokens] = FeatureCache(cache_bytes)
        self._models = ModelPool(
            loader.ids, loader, self._report, max_bytes=max_model_bytes, max_batch=loader.num_slots
        )
        self._vision = VisionBatcher()
        self._answering = Answering(self._models, lambda key: self._cached(key).tokens, self._send)
        self._requests: dict[str, asyncio.Task[Message | None]] = {}
        self._is_ready = False
        self._encode_seconds = 0.0
        self._drain_seconds = 0.0
        self._ended = asyncio.Event()
        self._channel = Channel(sock, self._receive, self._ended.set)

    async def run(self) -> None:
        """Load the first model, then serve until the web process says `Shutdown` or is gone.

        Raises:
            BtchatError: the first model cannot be loaded; nothing was sent.
        """
        card = await self._models.start()
        self._is_ready = True
        self._send(wire.Ready(asdict(card), list(self._models.names)))
        await self._ended.wait()
        await self._requests_ended(self._drain_seconds)
        await self._models.stop()
        await self._requests_ended(_LAST_SECONDS)
        await self._channel.flush()
        self._channel.close()

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

    def _receive(self, message: Message, fds: list[int]) -> None:
        match message:
            case wire.Open() | wire.Lookup() | wire.Encode() | wire.Fetch() | wire.Ask() | wire.AskStats():
                self._begin(message.id, self._reply_to(message, fds))
            case wire.Cancel(id=id):
                if not self._answering.cancel(id) and id in self._requests:
                    self._requests[id].cancel()
            case wire.Forget(prefix=prefix):
                self._cache.forget(prefix)
            case wire.Shutdown(drain=seconds):
                self._drain_seconds = seconds
                self._ended.set()
            case _:
                sys.stderr.write(f"engine: ignored a {type(message).__name__} from the web process\n")
        if self._models.has_died():
            sys.stderr.write("engine: a generation thread is gone; this process ends\n")
            self._ended.set()  # the web process starts another

    def _reply_to(self, message: wire.Request, fds: list[int]) -> Coroutine[Any, Any, Message | None]:
        match message:
            case wire.Ask():
                return self._answering.answer(message)
            case wire.Encode():
                return self._encode(message, fds[0])
            case wire.Open():
                return self._open(message)
            case wire.Lookup():
                return self._lookup(message)
            case wire.Fetch():
                return self._fetch(message)
            case wire.AskStats():
                return self._stats(message)

    def _begin(self, request_id: str, work: Coroutine[Any, Any, Message | None]) -> None:
        """Work on a request beside the others; what it returns or raises is its one terminal message."""
        task = self._requests[request_id] = asyncio.create_task(work)
        task.add_done_callback(partial(self._end, request_id))

    def _end(self, request_id: str, task: asyncio.Task[Message | None]) -> None:
        del self._requests[request_id]
        if task.cancelled():
            self._send(cancelled(request_id))
        elif (error := task.exception()) is not None:
            self._send(failed(request_id, error))
        elif (reply := task.result()) is not None:
            self._send(reply)

    async def _open(self, message: wire.Open) -> wire.Opened:
        async with self._models.borrowed([message.model]) as lease:
            return wire.Opened(message.id, asdict(lease.model(message.model).chat.card))

    async def _lookup(self, message: wire.Lookup) -> wire.Features:
        entry = self._cache.get(message.key)
        return wire.Features(message.id, entry is not None, {} if entry is None else entry.receipt)

    async def _encode(self, message: wire.Encode, fd: int) -> wire.Encoded:
        pixels = _read_frames(message, fd)
        failures: dict[str, list[Any]] = {}
        async with self._models.borrowed([name for name, _ in message.targets]) as lease:
            chats = {name: model.chat for name, model in lease.models.items()}
            made = await self._vision.encode(pixels, chats)
            self._encode_seconds += made.seconds / made.num_clips
            for name, key in message.targets:
                tokens = lease.failures.get(name) or made.tokens[name]
                if isinstance(tokens, Exception):
                    failures[name] = fields_of(tokens)
                else:
                    value = PooledTokens(tokens, chats[name].card.fingerprint)
                    self._cache.put(key, value, tokens.nbytes, message.receipt)
        return wire.Encoded(message.id, failures, made.seconds)

    def _cached(self, key: bytes) -> PooledTokens:
        entry = self._cache.get(key)
        if entry is None:
            raise FeaturesMissingError("the video's tokens are no longer cached; they must be encoded again")
        return entry.value

    async def _fetch(self, message: wire.Fetch) -> None:
        found = self._cached(message.key)
        tokens = found.tokens.cpu().contiguous()
        data = save({"tokens": tokens}, metadata={"fingerprint": found.fingerprint})
        fd = os.memfd_create("tokens", os.MFD_CLOEXEC)
        with os.fdopen(fd, "wb", closefd=False) as file:
            file.write(data)
        dtype = str(tokens.dtype).removeprefix("torch.")
        self._send(wire.TokenData(message.id, len(data), list(tokens.shape), dtype), [fd])

    async def _stats(self, message: wire.AskStats) -> wire.Stats:
        loaded = self._models.loaded()
        values = {
            "feature_cache_bytes": float(self._cache.num_bytes),
            "feature_cache_entries": float(len(self._cache)),
            "engine_encode_seconds_total": self._encode_seconds,
            "tower_encodes_total": float(self._vision.passes.total),
            "models_loaded": float(len(loaded)),
            "model_memory_bytes": float(sum(model.num_bytes for model in loaded)),
            "model_loads_total": float(self._models.num_loads),
            "model_unloads_total": float(self._models.num_unloads),
        }
        return wire.Stats(message.id, values, {model.name: _stats_of(model) for model in loaded})


def _stats_of(model: LoadedModel) -> dict[str, float]:
    stats = asdict(model.engine.stats())
    seconds = stats.pop("step_ms") / 1e3
    return {"engine_step_seconds": seconds, **{name: float(value) for name, value in stats.items()}}


def _read_frames(message: wire.Encode, fd: int) -> "Tensor":
    """A private copy of the frames (T, H, W, 3); closes the descriptor."""
    shape = (message.num_frames, message.height, message.width, 3)
    try:
        data = np.fromfile(f"/proc/self/fd/{fd}", dtype=np.uint8, count=int(np.prod(shape)))
    finally:
        os.close(fd)
    return torch.from_numpy(data.reshape(shape))


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m server.worker.__main__")
    parser.add_argument("--socket-fd", type=int, required=True)
    parser.add_argument(
        "--model",
        required=True,
        action="append",
        help="a name under --weights-dir, or a path to a model file; all but the first are loaded when used",
    )
    parser.add_argument("--weights-dir", type=Path, required=True)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", choices=DTYPES, help="default: the device's own")
    parser.add_argument("--quantise", choices=get_args(Quantise), default="none")
    parser.add_argument("--model-memory-bytes", type=int, help="all loaded models together")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads of torch; 0 leaves its default")
    parser.add_argument("--cache-bytes", type=int, default=1 << 30)
    parser.add_argument("--max-batch", type=int, default=16)
    return parser.parse_args(argv)


async def _serve(arguments: argparse.Namespace) -> int:
    sock = socket.socket(fileno=arguments.socket_fd)
    try:
        loader = DiskLoader(
            arguments.model,
            arguments.weights_dir,
            device=arguments.device,
            dtype=arguments.dtype,
            quantise=arguments.quantise,
            num_slots=arguments.max_batch,
        )
        limit = arguments.model_memory_bytes
        await Worker(loader, sock, cache_bytes=arguments.cache_bytes, max_model_bytes=limit).run()
    except BtchatError as error:
        sock.setblocking(True)
        sock.sendall(wire.pack(wire.StartFailed(error.message)))
        return 1
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Load the first model, say so, serve."""
    arguments = _arguments(argv)
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    return asyncio.run(_serve(arguments))


if __name__ == "__main__":
    sys.exit(main())
