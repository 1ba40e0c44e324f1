"""The engine process: models, vision batcher and generation behind one socket.

The only file of the service that loads torch. Three threads: the main one reads messages, one encodes frames
in batches, one (inside the engine) generates.
"""

import argparse
import os
import socket
import sys
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors.torch import save

from bt_model.errors import BtchatError, FeaturesMissingError
from bt_model.generation.engine import BatchEngine
from bt_model.generation.request import Delta, Event, Finish
from bt_model.model_folder import load
from bt_model.types import GenerateOptions, Turn, Usage, VideoTokens
from server.engine.connection import Connection
from server.engine.feature_cache import FeatureCache
from server.engine.wire import (
    Ask,
    AskStats,
    Cancel,
    Done,
    Encode,
    Failed,
    Features,
    Fetch,
    Forget,
    Lookup,
    Message,
    Piece,
    Ready,
    Shutdown,
    StartFailed,
    Stats,
    TokenData,
)

if TYPE_CHECKING:
    from torch import Tensor

    from bt_model.backends.text_stream import TextStream
    from bt_model.chat import VideoChat

MAX_CLIPS_PER_BATCH = 8


class VisionBatcher:
    """Encodes waiting clips, those of one shape together, on a thread of its own."""

    def __init__(self, worker: "Worker") -> None:
        self._worker = worker
        self._waiting: SimpleQueue[tuple[Encode, Tensor] | None] = SimpleQueue()
        self._thread = Thread(target=self._run, name="vision", daemon=True)
        self._thread.start()

    def add(self, message: Encode, pixels: "Tensor") -> None:
        """Queue one clip, (T, H, W, 3) uint8."""
        self._waiting.put((message, pixels))

    def stop(self) -> None:
        """Finish what is queued and end the thread."""
        self._waiting.put(None)
        self._thread.join()

    def _run(self) -> None:
        held: deque[tuple[Encode, Tensor] | None] = deque()  # taken out, but of another shape
        while (first := held.popleft() if held else self._waiting.get()) is not None:
            batch = [first]
            while len(batch) < MAX_CLIPS_PER_BATCH and not self._waiting.empty():
                more = self._waiting.get()
                if more is None or more[1].shape != first[1].shape:
                    held.append(more)  # begins the next batch, so that no shape waits for ever
                    break
                batch.append(more)
            self._worker.encode_batch([m for m, _ in batch], [p for _, p in batch])


class Worker:
    """One loaded model and the requests in flight."""

    def __init__(
        self, chat: "VideoChat", connection: Connection, *, cache_bytes: int, max_batch: int
    ) -> None:
        self._chat = chat
        self._connection = connection
        self._cache: FeatureCache[Tensor] = FeatureCache(cache_bytes)
        self._engine = BatchEngine(chat.backend.lm, max_batch=max_batch)
        self._vision = VisionBatcher(self)
        self._encode_seconds = 0.0

    def run(self) -> None:
        """Serve until the web process says `Shutdown` or is gone."""
        self._engine.start()
        self.send(Ready(asdict(self._chat.card)))
        drain = 0.0
        while (received := self._connection.receive()) is not None:
            message, fds = received
            if isinstance(message, Shutdown):
                drain = message.drain
                break
            self._handle(message, fds)
            if not self._engine.stats().alive:
                sys.stderr.write("engine: the generation thread is gone; this process ends\n")
                break  # the web process starts another
        self._vision.stop()
        self._engine.stop(drain)
        self._connection.close()

    def _handle(self, message: Message, fds: tuple[int, ...]) -> None:
        try:
            match message:
                case Lookup():
                    self._lookup(message)
                case Encode():
                    self._vision.add(message, _read_frames(message, fds[0]))
                case Fetch():
                    self._fetch(message)
                case Ask():
                    self._ask(message)
                case Cancel():
                    self._engine.cancel(message.id)
                case Forget():
                    self._cache.forget(message.keys)
                case AskStats():
                    self.send(Stats(message.id, self._stats()))
                case _:
                    sys.stderr.write(f"engine: ignored a {type(message).__name__} from the web process\n")
        except Exception as error:  # noqa: BLE001 - one bad request must not take its neighbours down
            self.send(_failed(getattr(message, "id", ""), error))
        finally:
            for fd in fds:
                os.close(fd)

    def _lookup(self, message: Lookup) -> None:
        entry = self._cache.get(message.key)
        receipt = {} if entry is None else entry.receipt
        self.send(Features(message.id, entry is not None, receipt, 0.0))

    def encode_batch(self, messages: "list[Encode]", clips: "list[Tensor]") -> None:
        """Encode clips of one shape and answer each; called by the vision thread."""
        begin = time.monotonic()
        try:
            tokens = self._chat.encode(torch.stack(clips))
        except Exception as error:  # noqa: BLE001 - reported to each request of the batch
            for message in messages:
                self.send(_failed(message.id, error))
            return
        seconds = time.monotonic() - begin
        self._encode_seconds += seconds
        for message, row in zip(messages, tokens, strict=True):
            kept = row.clone()  # a view would keep the whole batch alive
            self._cache.put(message.key, kept, kept.nbytes, message.receipt)
            self.send(Features(message.id, True, message.receipt, seconds))

    def _video(self, key: bytes) -> VideoTokens:
        entry = self._cache.get(key)
        if entry is None:
            raise FeaturesMissingError("the video's tokens are no longer cached; they must be encoded again")
        return VideoTokens(key, entry.value)

    def _fetch(self, message: Fetch) -> None:
        tokens = self._video(message.key).tokens.cpu().contiguous()
        data = save({"tokens": tokens}, metadata={"fingerprint": self._chat.card.fingerprint})
        fd = os.memfd_create("tokens", os.MFD_CLOEXEC)
        with os.fdopen(fd, "wb") as file:
            file.write(data)
            file.flush()
            dtype = str(tokens.dtype).removeprefix("torch.")
            self.send(TokenData(message.id, len(data), list(tokens.shape), dtype), (fd,))

    def _ask(self, message: Ask) -> None:
        given: dict[str, Any] = {**message.options, "stop": tuple(message.options.get("stop", ()))}
        options = GenerateOptions(**given)
        turns = tuple(Turn(role, text) for role, text in message.turns)  # pyright: ignore[reportArgumentType] - checked by the web side's schema
        video = self._video(message.key) if message.key else None
        deadline = time.monotonic() + message.timeout
        request = self._chat.request(turns, video, options, request_id=message.id, deadline=deadline)
        answer = Answer(message.id, self._chat.text_stream(options), request.num_video_tokens, self)
        self._engine.submit(request, answer.on_event)

    def send(self, message: Message, fds: tuple[int, ...] = ()) -> None:
        """Send to the web process; a peer that is gone ends `run` by itself."""
        try:
            self._connection.send(message, fds)
        except OSError:
            return

    def cancel(self, request_id: str) -> None:
        """Stop generating for one request."""
        self._engine.cancel(request_id)

    def _stats(self) -> dict[str, float]:
        stats = asdict(self._engine.stats())
        return {
            "engine_step_seconds": stats.pop("step_ms") / 1e3,
            **{name: float(value) for name, value in stats.items()},
            "feature_cache_bytes": float(self._cache.num_bytes),
            "feature_cache_entries": float(len(self._cache)),
            "engine_encode_seconds_total": self._encode_seconds,
        }


class Answer:
    """One answer on its way: engine events in, pieces and exactly one terminal message out."""

    def __init__(self, request_id: str, text: "TextStream", num_video: int, worker: Worker) -> None:
        self._id = request_id
        self._text = text
        self._num_video = num_video
        self._worker = worker

    def on_event(self, event: Event) -> None:
        """Called on the engine's thread."""
        match event:
            case Delta(token_ids=ids):
                piece = self._text.push(ids)
                if piece:
                    self._worker.send(Piece(self._id, piece, len(ids)))
                if self._text.stopped:
                    self._worker.cancel(self._id)
            case Finish(reason="error"):
                self._worker.send(Failed(self._id, "EngineError", event.message, "engine_error", None))
            case Finish():
                if rest := self._text.finish():
                    self._worker.send(Piece(self._id, rest, 0))
                self._worker.send(self._done(event))

    def _done(self, event: Finish) -> Done:
        reason = "stop" if self._text.stopped else event.reason
        usage = Usage(event.num_prompt, event.num_new, self._num_video, event.num_cached)
        return Done(self._id, reason, asdict(usage), asdict(event.timing))


def _read_frames(message: Encode, fd: int) -> "Tensor":
    """A private copy of the frames (T, H, W, 3): the descriptor is closed right after."""
    shape = (message.num_frames, message.height, message.width, 3)
    data = np.fromfile(f"/proc/self/fd/{fd}", dtype=np.uint8, count=int(np.prod(shape)))
    return torch.from_numpy(data.reshape(shape))


def _failed(request_id: str, error: Exception) -> Failed:
    if isinstance(error, BtchatError):
        return Failed(request_id, type(error).__name__, error.message, error.code, error.param)
    sys.stderr.write(f"engine: {type(error).__name__}: {error}\n")
    return Failed(request_id, "EngineError", "the engine failed on this request", "engine_error", None)


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m server.engine.worker")
    parser.add_argument("--socket-fd", type=int, required=True)
    parser.add_argument(
        "--model", required=True, help="a name under --weights-dir, or a path to a model file"
    )
    parser.add_argument("--weights-dir", type=Path, required=True)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads of torch; 0 leaves its default")
    parser.add_argument("--cache-bytes", type=int, default=1 << 30)
    parser.add_argument("--max-batch", type=int, default=16)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Load the model, say so, serve."""
    arguments = _arguments(argv)
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    connection = Connection(socket.socket(fileno=arguments.socket_fd))
    try:
        chat = load(arguments.model, arguments.weights_dir, device=arguments.device)
    except BtchatError as error:
        connection.send(StartFailed(error.message))
        return 1
    except Exception as error:
        connection.send(StartFailed(f"{arguments.model} cannot be loaded: {type(error).__name__}: {error}"))
        raise
    Worker(chat, connection, cache_bytes=arguments.cache_bytes, max_batch=arguments.max_batch).run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
