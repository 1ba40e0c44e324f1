"""Many videos and three models, while tokens are evicted, models unloaded and engines restarted."""

import tempfile
import uuid
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

from bt_model.chat import VideoChat
from bt_model.generation.engine import BatchEngine
from bt_model.types import GenerateOptions, Turn, VideoTokens
from server.engine import wire
from server.worker.loader import CacheSettings, DiskLoader
from tests import tiny
from tests.bt_model.generation.engines import running
from tests.server.worker.processes import EngineProcess, started, write_models

NAMES = ("embedded", "embedded-zeroshot", "second")
NUM_VIDEOS, NUM_ROUNDS, ROUNDS_PER_ENGINE, ASKED_AT_ONCE = 50, 1000, 100, 3
CACHED_VIDEOS, NUM_FRAMES = 10, 4
QUESTIONS = ("which way does it move?", "what is it?")
OPTIONS: dict[str, Any] = {"max_tokens": 8, "temperature": 0.0, "ignore_eos": True}

Ask = tuple[str, int, str]
"""Model, video and question."""


def rounds() -> str:
    """No answer is another's: each is what its model says of its video alone."""
    random, counts = Random(0), {"answers": 0, "encodes": 0, "unloads": 0, "restarts": 0}
    with tempfile.TemporaryDirectory(prefix="btchat-soak-") as folder:
        write_models(Path(folder))
        loader = DiskLoader(NAMES, Path(folder), device="cpu", cache=CacheSettings(max_batch=2))
        limit = sum(loader.estimate(name).total for name in NAMES) - 1  # two of the three
        expected = {name: _alone(loader.load(name)) for name in NAMES}
        num_bytes = CACHED_VIDEOS * (tiny.P + 1) * tiny.D * 4
        arguments = ["--feature-cache-bytes", str(num_bytes), "--model-memory-bytes", str(limit)]
        arguments += [part for name in NAMES[1:] for part in ("--model", name)]
        for _ in range(NUM_ROUNDS // ROUNDS_PER_ENGINE):
            with started(Path(folder), NAMES[0], *arguments) as engine:
                engine.expect(wire.Ready)
                for _ in range(ROUNDS_PER_ENGINE):
                    _round(engine, random, expected, counts)
                _check_idle(engine, counts)
                counts["restarts"] += 1
    distinct = len({text for texts in expected.values() for text in texts.values()})
    total = len(NAMES) * NUM_VIDEOS * len(QUESTIONS)
    return f"{NUM_ROUNDS} rounds, {counts}: 0 answers of another; {distinct} of {total} expected ones differ"


def _alone(chat: VideoChat) -> dict[tuple[int, str], str]:
    """What a model says of each video, asked one after the other under keys of their own."""
    said = dict[tuple[int, str], str]()
    with running(BatchEngine(chat.backend.lm, max_batch=1)) as engine:
        for video in range(NUM_VIDEOS):
            tokens = chat.encode(tiny.clips(1, NUM_FRAMES, seed=video))[0]
            for question in QUESTIONS:
                asked = VideoTokens(uuid.uuid4().bytes, tokens)
                said[video, question] = "".join(
                    chat.answer(engine, [Turn("user", question)], [asked], GenerateOptions(**OPTIONS))
                )
    return said


def _round(
    engine: EngineProcess,
    random: Random,
    expected: dict[str, dict[tuple[int, str], str]],
    counts: dict[str, int],
) -> None:
    model = random.choice(NAMES)
    asked = [(model, random.randrange(NUM_VIDEOS), random.choice(QUESTIONS)) for _ in range(ASKED_AT_ONCE)]
    for ask in asked:
        counts["encodes"] += _encoded(engine, ask)
    for number, (_, video, question) in enumerate(asked):
        turns = [["user", question]]
        videos = [[_key(model, video), 0, 0]]
        engine.connection.send(wire.Ask(str(number), model, "a", videos, turns, OPTIONS, 60.0))
    for number, text in _answers(engine, asked).items():
        _, video, question = asked[number]
        assert text == expected[model][video, question], (asked[number], text)
        counts["answers"] += 1


def _answers(engine: EngineProcess, asked: Sequence[Ask]) -> dict[int, str]:
    """Texts by the number of the question."""
    texts, left = dict.fromkeys(range(len(asked)), ""), len(asked)
    while left:
        message, _ = engine.receive()
        if isinstance(message, wire.Piece):
            texts[int(message.id)] += message.text
        else:
            assert isinstance(message, wire.Done), message
            left -= 1
    return texts


def _encoded(engine: EngineProcess, ask: Ask) -> bool:
    """Have the video's tokens in the cache; whether they had to be made."""
    model, video, _ = ask
    engine.connection.send(wire.Lookup("l", _key(model, video)))
    if engine.expect(wire.Features).found:
        return False
    clip = tiny.clips(1, NUM_FRAMES, seed=video)[0].numpy()
    engine.encode("e", {model: _key(model, video)}, clip, {})
    assert engine.expect(wire.Encoded).failures == {}
    return True


def _key(model: str, video: int) -> bytes:
    return f"{video} {model}".encode()


def _check_idle(engine: EngineProcess, counts: dict[str, int]) -> None:
    """Nothing runs, and without what is stored of prompts nothing is held."""
    for video in range(NUM_VIDEOS):
        engine.connection.send(wire.Forget(f"{video} ".encode()))
    stats = engine.stats()
    counts["unloads"] += int(stats.values["model_unloads_total"])
    assert stats.values["feature_cache_entries"] == 0
    for figures in stats.models.values():
        assert (figures["running"], figures["waiting"], figures["kv_used"]) == (0, 0, 0)
        assert figures["prefix_bytes"] == 0, figures
    engine.connection.send(wire.Shutdown(5.0))
    assert engine.wait() == 0
