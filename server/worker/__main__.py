"""The engine process: models, vision batcher and generation behind one socket.

Of the service only this file and those that it alone imports load torch. The main thread reads messages, one
loads models, one encodes frames in batches, and each loaded model has one that generates.
"""

import argparse
import os
import socket
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import torch
from safetensors.torch import save

from bt_model.errors import BtchatError, FeaturesMissingError
from bt_model.types import DTYPES, Quantise
from server.engine import wire
from server.engine.errors import failed
from server.engine.wire import Message
from server.worker.answering import Answers
from server.worker.connection import Connection
from server.worker.feature_cache import FeatureCache
from server.worker.loader import DiskLoader
from server.worker.models import Lease, LoadedModel, Models, failure_of
from server.worker.vision import Batch, Clip, VisionBatcher

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class _Tokens:
    """Pooled tokens (K, D) and the fingerprint of what made them."""

    tokens: "Tensor"
    fingerprint: str


class Worker:
    """The models of this process and the requests in flight."""

    def __init__(
        self,
        loader: DiskLoader,
        connection: Connection,
        *,
        cache_bytes: int,
        max_model_bytes: int | None = None,
    ) -> None:
        self._connection = connection
        self._cache: FeatureCache[_Tokens] = FeatureCache(cache_bytes)
        self._models = Models(
            loader.ids, loader, self._hold, max_bytes=max_model_bytes, max_batch=loader.num_slots
        )
        self._vision = VisionBatcher(self._deliver)
        self._answers = Answers(self._models, self._tokens_of, self.send)
        self._is_ready = False
        self._encode_seconds = 0.0

    def run(self) -> None:
        """Load the first model, then serve until the web process says `Shutdown` or is gone.

        Raises:
            BtchatError: the first model cannot be loaded; nothing was sent.
        """
        card = self._models.start()
        self._is_ready = True
        self.send(wire.Ready(asdict(card), list(self._models.names)))
        drain = 0.0
        while (received := self._connection.receive()) is not None:
            message, fds = received
            if isinstance(message, wire.Shutdown):
                drain = message.drain
                break
            self._handle(message, fds)
            if self._models.has_died():
                sys.stderr.write("engine: a generation thread is gone; this process ends\n")
                break  # the web process starts another
        self._vision.stop()
        self._models.stop(drain)
        self._connection.close()

    def send(self, message: Message, fds: tuple[int, ...] = ()) -> None:
        """Send to the web process; a peer that is gone ends `run` by itself."""
        try:
            self._connection.send(message, fds)
        except OSError:
            return

    def _hold(self, names: list[str]) -> None:
        if self._is_ready:  # `Ready` itself says that the first is loaded
            self.send(wire.Holding(names))

    def _handle(self, message: Message, fds: tuple[int, ...]) -> None:
        try:
            self._dispatch(message, fds)
        except Exception as error:  # noqa: BLE001 - one bad request must not take its neighbours down
            self.send(failed(getattr(message, "id", ""), error))
        finally:
            for fd in fds:
                os.close(fd)

    def _dispatch(self, message: Message, fds: tuple[int, ...]) -> None:
        match message:
            case wire.Open():
                self._models.borrow([message.model], partial(self._open, message))
            case wire.Lookup():
                self._lookup(message)
            case wire.Encode():
                self._encode(message, fds[0])
            case wire.Fetch():
                self._fetch(message)
            case wire.Ask():
                self._answers.ask(message)
            case wire.Cancel():
                self._answers.cancel(message.id)
            case wire.Forget():
                self._cache.forget(message.prefix)
            case wire.AskStats():
                self.send(wire.Stats(message.id, self._stats(), self._model_stats()))
            case _:
                sys.stderr.write(f"engine: ignored a {type(message).__name__} from the web process\n")

    def _open(self, message: wire.Open, lease: Lease) -> None:
        self._models.give_back(lease.models.values())
        model = lease.models.get(message.model)
        if model is None:
            self.send(failed(message.id, failure_of(lease, message.model)))
        else:
            self.send(wire.Opened(message.id, asdict(model.chat.card)))

    def _lookup(self, message: wire.Lookup) -> None:
        entry = self._cache.get(message.key)
        self.send(wire.Features(message.id, entry is not None, {} if entry is None else entry.receipt))

    def _encode(self, message: wire.Encode, fd: int) -> None:
        pixels = _read_frames(message, fd)
        names = [name for name, _ in message.targets]
        self._models.borrow(names, lambda lease: self._vision.add(Clip(message, pixels, lease)))

    def _deliver(self, batch: Batch) -> None:
        """Keep the tokens of a batch and tell; called by the vision thread."""
        self._encode_seconds += batch.seconds
        for place, clip in enumerate(batch.clips):
            failures = dict[str, list[Any]]()
            for name, key in clip.message.targets:
                tokens = batch.tokens[name] if name in batch.tokens else failure_of(clip.lease, name)
                if isinstance(tokens, Exception):
                    said = failed(clip.message.id, tokens)
                    failures[name] = [said.error, said.message, said.code, said.param]
                else:
                    kept = tokens[place].clone()  # a view would keep the whole batch alive
                    value = _Tokens(kept, clip.lease.models[name].chat.card.fingerprint)
                    self._cache.put(key, value, kept.nbytes, clip.message.receipt)
            self._models.give_back(clip.lease.models.values())
            self.send(wire.Encoded(clip.message.id, failures, batch.seconds))

    def _kept(self, key: bytes) -> _Tokens:
        entry = self._cache.get(key)
        if entry is None:
            raise FeaturesMissingError("the video's tokens are no longer cached; they must be encoded again")
        return entry.value

    def _tokens_of(self, key: bytes) -> "Tensor":
        return self._kept(key).tokens

    def _fetch(self, message: wire.Fetch) -> None:
        found = self._kept(message.key)
        tokens = found.tokens.cpu().contiguous()
        data = save({"tokens": tokens}, metadata={"fingerprint": found.fingerprint})
        fd = os.memfd_create("tokens", os.MFD_CLOEXEC)
        with os.fdopen(fd, "wb") as file:
            file.write(data)
            file.flush()
            dtype = str(tokens.dtype).removeprefix("torch.")
            self.send(wire.TokenData(message.id, len(data), list(tokens.shape), dtype), (fd,))

    def _stats(self) -> dict[str, float]:
        return {
            "feature_cache_bytes": float(self._cache.num_bytes),
            "feature_cache_entries": float(len(self._cache)),
            "engine_encode_seconds_total": self._encode_seconds,
            "tower_encodes_total": float(self._vision.passes.total),
            "models_loaded": float(len(self._models.loaded())),
            "model_memory_bytes": float(sum(model.num_bytes for model in self._models.loaded())),
            "model_loads_total": float(self._models.num_loads),
            "model_unloads_total": float(self._models.num_unloads),
        }

    def _model_stats(self) -> dict[str, dict[str, float]]:
        def of(model: LoadedModel) -> dict[str, float]:
            stats = asdict(model.engine.stats())
            seconds = stats.pop("step_ms") / 1e3
            return {"engine_step_seconds": seconds, **{name: float(value) for name, value in stats.items()}}

        return {model.name: of(model) for model in self._models.loaded()}


def _read_frames(message: wire.Encode, fd: int) -> "Tensor":
    """A private copy of the frames (T, H, W, 3): the descriptor is closed right after."""
    shape = (message.num_frames, message.height, message.width, 3)
    data = np.fromfile(f"/proc/self/fd/{fd}", dtype=np.uint8, count=int(np.prod(shape)))
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


def main(argv: Sequence[str] | None = None) -> int:
    """Load the first model, say so, serve."""
    arguments = _arguments(argv)
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    connection = Connection(socket.socket(fileno=arguments.socket_fd))
    try:
        loader = DiskLoader(
            arguments.model,
            arguments.weights_dir,
            device=arguments.device,
            dtype=arguments.dtype,
            quantise=arguments.quantise,
            num_slots=arguments.max_batch,
        )
        Worker(
            loader,
            connection,
            cache_bytes=arguments.cache_bytes,
            max_model_bytes=arguments.model_memory_bytes,
        ).run()
    except BtchatError as error:
        connection.send(wire.StartFailed(error.message))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
