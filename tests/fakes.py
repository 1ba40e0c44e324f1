"""A fake engine: a real process that speaks the wire protocol over the real socket, without torch.

It echoes the question word by word. Some questions make it misbehave; see `_answer`.
"""

import argparse
import asyncio
import json
import os
import socket
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
from safetensors.numpy import save

from bt_model.types import FrameSize, ModelCard, TokenBound
from server.engine import wire
from server.engine.channel import Channel
from server.engine.supervisor import Command
from server.engine.wire import Message

MODEL = "fake/echo"
CARD = ModelCard(
    id=MODEL,
    backend="echo",
    frame_size=FrameSize(32, "crop"),
    default_frames=4,
    max_frames=8,
    max_context=128,
    num_video_tokens=3,
    video_dim=4,
    fingerprint="f" * 16,
    pooling="patches_cls",
    notice="a fake",
    vocab_size=1000,
)
OTHER = "fake/other"  # looks at frames of another size, answers in capitals
TWIN = "fake/twin"  # sees exactly what the first sees, and knows a long text by its length
MANY = "fake/many"  # takes several videos, and says where they stand when asked "!videos"
BAD = "fake/bad"  # cannot be loaded
OTHER_CARD = replace(CARD, id=OTHER, frame_size=FrameSize(16, "pad"), default_frames=2, fingerprint="e" * 16)
CARDS = {
    MODEL: CARD,
    OTHER: OTHER_CARD,
    TWIN: replace(CARD, id=TWIN, text_bound=TokenBound(16, 1)),
    MANY: replace(CARD, id=MANY, max_videos=3),
}
SLOW = "slow-"  # and the seconds that it takes to load
BAD_LINE = "weights/bad.safetensors: tensor proj.bias is missing"
START_LINE = "weights/fake.safetensors: tensor proj.weight is missing"
REFUSED_FRAMES = 7  # as a model that averages pairs refuses odd counts
REFUSED_SCHEMA = "refuse me"
MOST_LIVE_FRAMES = 200
_PIECE_SECONDS = 0.005
_LONG = 4000
_LATE_SECONDS = 0.6


def command(*models: str) -> Command:
    """How this engine is started."""
    names = [part for model in models or (MODEL,) for part in ("--model", model)]
    return lambda fd: [sys.executable, "-m", "tests.fakes", "--socket-fd", str(fd), *names]


class FakeEngine:
    """Remembers keys, counts everything, and answers."""

    def __init__(self, sock: socket.socket, loaded: str = MODEL) -> None:
        self.ended = asyncio.Event()
        self._channel = Channel(sock, self._receive, self.ended.set)
        self._receipts: dict[bytes, dict[str, Any]] = {}
        self._answers: dict[str, asyncio.Task[None]] = {}
        self._counts = {
            "fake_asked_total": 0,
            "fake_cancelled_total": 0,
            "fake_frame_bytes": 0,
            "fake_forgotten_total": 0,
            "fake_opened_total": 0,
            "fake_encoded_total": 0,
            "fake_compiled_total": 0,
            "fake_live_frames_total": 0,
        }
        self._evictions = 1
        self._sessions: set[str] = set()
        self._loaded = [loaded]

    def send(self, message: Message, fds: Sequence[int] = ()) -> None:
        if not self._channel.is_closed:
            self._channel.send(message, fds)

    def _receive(self, message: Message, fds: list[int]) -> None:  # noqa: C901 - a case for each message
        match message:
            case wire.Open() | wire.Compile():
                self._prepare(message)
            case wire.Lookup(id=id, key=key):
                self.send(wire.Features(id, key in self._receipts, self._receipts.get(key, {})))
            case wire.Encode():
                self._encode(message, fds[0])
            case wire.Fetch(id=id, key=key):
                self._fetch(id)
            case wire.Ask():
                self._begin(message)
            case wire.Measure(id=id, videos=videos):
                self.send(wire.Measured(id, 7, 3 * len(videos)))
            case wire.Cancel(id=id):
                self._cancel(id)
            case wire.Forget(prefix=prefix):
                forgotten = [key for key in self._receipts if key.startswith(prefix)]
                self._receipts = {key: self._receipts[key] for key in self._receipts if key not in forgotten}
                self._counts["fake_forgotten_total"] += len(forgotten)
            case wire.LiveOpen() | wire.LiveFrame() | wire.LiveEncode() | wire.LiveClose():
                self._live(message, fds)
            case wire.AskStats(id=id):
                stats = {name: float(value) for name, value in self._counts.items()}
                values = {**stats, "running": float(len(self._answers))}
                self.send(wire.Stats(id, values, {name: {"kv_used": 1.0} for name in self._loaded}))
            case _:  # Shutdown
                self.ended.set()
        for fd in fds:
            os.close(fd)

    def _cancel(self, request_id: str) -> None:
        if request_id in self._answers:
            self._counts["fake_cancelled_total"] += 1
            self._answers[request_id].cancel()

    def _prepare(self, message: wire.Open | wire.Compile) -> None:
        if isinstance(message, wire.Compile):
            self._compile(message)
            return
        self._counts["fake_opened_total"] += 1
        if message.model == BAD:
            self.send(wire.Failed(message.id, "CheckpointError", BAD_LINE, "bad_checkpoint", None))
            return
        self._loaded.append(message.model)
        self.send(wire.Holding(self._loaded))
        self.send(wire.Opened(message.id, asdict(CARDS[message.model])))

    def _compile(self, message: wire.Compile) -> None:
        self._counts["fake_compiled_total"] += 1
        if REFUSED_SCHEMA in message.schema:
            param = "response_format.json_schema.schema"
            self.send(wire.Failed(message.id, "InvalidValueError", "scripted", "invalid_value", param))
            return
        self.send(wire.Compiled(message.id))

    def _encode(self, message: wire.Encode, fd: int) -> None:
        expected = message.num_frames * message.height * message.width * 3
        assert os.fstat(fd).st_size == expected
        self._counts["fake_encoded_total"] += 1
        self._counts["fake_frame_bytes"] += expected
        failures = dict[str, list[Any]]()
        for model, key in message.targets:
            if message.num_frames == REFUSED_FRAMES and model != OTHER:
                failures[model] = [
                    "InvalidValueError",
                    "scripted invalid_value",
                    "invalid_value",
                    "num_frames",
                ]
            else:
                self._receipts[key] = message.receipt
        self.send(wire.Encoded(message.id, failures, 0.001))

    def _live(self, message: Message, fds: list[int]) -> None:
        """Windows of live sessions, of which it knows the names."""
        match message:
            case wire.LiveOpen(id=id, max_frames=max_frames) if max_frames > MOST_LIVE_FRAMES:
                self.send(wire.Failed(id, "EngineError", "scripted", "overloaded", "max_frames"))
            case wire.LiveOpen(id=id, session=session, model=model):
                self._sessions.add(session)
                self.send(wire.Opened(id, asdict(CARDS[model])))
            case wire.LiveFrame(id=id, session=session, height=height, width=width):
                assert session in self._sessions
                assert os.fstat(fds[0]).st_size == 3 * height * width
                self._counts["fake_live_frames_total"] += 1
                self.send(wire.Encoded(id, {}, 0.001))
            case wire.LiveEncode(id=id, session=session, key=key, receipt=receipt):
                assert session in self._sessions
                self._receipts[key] = receipt
                self.send(wire.Encoded(id, {}, 0.001))
            case wire.LiveClose(session=session):
                self._sessions.discard(session)
            case _:
                raise AssertionError(message)

    def _fetch(self, request_id: str) -> None:
        tokens = np.arange(12, dtype=np.float32).reshape(3, 4)
        data = save({"tokens": tokens})
        fd = os.memfd_create("tokens")
        os.write(fd, data)
        self.send(wire.TokenData(request_id, len(data), [3, 4], "float32"), [fd])

    def _begin(self, ask: wire.Ask) -> None:
        self._counts["fake_asked_total"] += 1
        task = self._answers[ask.id] = asyncio.create_task(self._answer(ask))
        task.add_done_callback(lambda _task: self._answers.pop(ask.id, None))

    async def _answer(self, ask: wire.Ask) -> None:
        text = ask.turns[-1][1]
        words = _words(ask, text)
        match text:
            case "!die":
                os._exit(9)
            case "!too long":
                self._fail(ask.id, "ContextLengthError", "context_length_exceeded", "messages")
                return
            case "!evicted" if self._evictions:
                self._evictions -= 1
                self._receipts.clear()
                self._fail(ask.id, "FeaturesMissingError", "features_missing", None)
                return
            case "!always evicted":
                self._fail(ask.id, "FeaturesMissingError", "features_missing", None)
                return
            case _ if text == f"!{ask.model} fails":
                self._fail(ask.id, "EngineError", "engine_error", None)
                return
            case "!late":
                await asyncio.sleep(_LATE_SECONDS)
            case _:
                pass
        await self._say(ask, words, text)

    async def _say(self, ask: wire.Ask, words: list[str], text: str) -> None:
        most = ask.options.get("max_tokens", len(words))
        reason = "stop" if len(words) <= most else "length"
        words = words[:most]
        for number, word in enumerate(words):
            entry = [
                word,
                word.encode(),
                -0.5,
                [[word, word.encode(), -0.5]] * ask.options.get("logprobs", 0),
            ]
            logprobs = [entry] if "logprobs" in ask.options else []
            self.send(wire.Piece(ask.id, word, logprobs, 7, number + 1))
            await asyncio.sleep(_PIECE_SECONDS)
            if number == 2 and text == "!die later":
                os._exit(9)
            if text == f"!fail after {number + 1}":
                self._fail(ask.id, "EngineError", "engine_error", None)
                return
        usage = {"prompt": 7, "completion": len(words), "video": 3 * len(ask.videos), "cached": 2}
        seconds = {"queue": 0.001, "prefill": 0.002, "decode": 0.003}
        self.send(wire.Done(ask.id, reason, usage, seconds))

    def _fail(self, request_id: str, error: str, code: str, param: str | None) -> None:
        self.send(wire.Failed(request_id, error, f"scripted {code}", code, param))


def _words(ask: wire.Ask, text: str) -> list[str]:
    """What is answered: the question itself, or what some questions are told of themselves."""
    if text.endswith("!videos"):
        return [f"{turn}:{at} " for _, turn, at in ask.videos]
    if text.endswith("!turns"):
        return [json.dumps(ask.turns)]
    if text == "!options":
        return [f"{name}={ask.options[name]} " for name in sorted(ask.options)]
    if text in ("!slow", "!die later") or text.startswith("!fail after "):
        return [f"{number} " for number in range(_LONG)]
    return [f"{word} " for word in (text.upper() if ask.model == OTHER else text).split()]


async def _serve(sock: socket.socket, models: Sequence[str]) -> int:
    model = models[0]
    engine = FakeEngine(sock)
    if model == "broken":
        engine.send(wire.StartFailed(START_LINE))
        return 1
    if model.startswith(SLOW):
        engine.send(wire.Loading(MODEL, 2, 3))
        await asyncio.sleep(float(model.removeprefix(SLOW)))
    if model == "silent":
        await asyncio.sleep(60)
    engine.send(wire.Ready(asdict(CARD), list(models)))
    await engine.ended.wait()
    return 0


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--socket-fd", type=int, required=True)
    parser.add_argument("--model", required=True, action="append")
    arguments = parser.parse_args()
    return asyncio.run(_serve(socket.socket(fileno=arguments.socket_fd), arguments.model))


if __name__ == "__main__":
    sys.exit(main())
