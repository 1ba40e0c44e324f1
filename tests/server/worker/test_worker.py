"""The engine process, as the web process sees it, over tiny models."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load

from bt_model.assembly import load as model_folder
from bt_model.chat import VideoChat
from bt_model.generation.engine import BatchEngine
from bt_model.types import GenerateOptions, Turn, VideoTokens
from server.engine import wire
from server.engine.replies import card_of
from server.metrics import Metrics
from tests import tiny
from tests.server.test_metrics import documented
from tests.server.worker.processes import EngineProcess, started

RECEIPT = {"indices": [0, 3], "decoder": "pyav"}
QUESTION = "which way does it move?"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    tiny.write_model_folder(folder)
    return folder


@pytest.fixture(scope="module")
def chat(weights: Path) -> VideoChat:
    return model_folder.load(tiny.MODEL, weights, device="cpu")


@pytest.fixture(scope="module")
def ready(weights: Path) -> Iterator[tuple[EngineProcess, wire.Ready]]:
    with started(weights, tiny.MODEL) as engine:
        yield engine, engine.expect(wire.Ready)


@pytest.fixture
def engine(ready: tuple[EngineProcess, wire.Ready]) -> EngineProcess:
    return ready[0]


def frames(num_frames: int = 4, seed: int = 0) -> NDArray[np.uint8]:
    return tiny.clips(1, num_frames, seed)[0].numpy()


@pytest.fixture
def key(engine: EngineProcess, request: pytest.FixtureRequest) -> bytes:
    """The key of an encoded video, this test's own."""
    key = request.node.name.encode()
    engine.encode("e", key, frames(), RECEIPT)
    assert not engine.expect(wire.Encoded).failures
    return key


def test_it_says_what_it_has_loaded(ready: tuple[EngineProcess, wire.Ready], chat: VideoChat) -> None:
    assert (card_of(ready[1].card), ready[1].models) == (chat.card, [tiny.MODEL])


def test_an_unknown_key_is_not_found(engine: EngineProcess) -> None:
    engine.connection.send(wire.Lookup("a", b"never seen"))
    assert engine.expect(wire.Features) == wire.Features("a", False, {})


def test_encoding_is_answered_with_its_time(engine: EngineProcess) -> None:
    engine.encode("a", b"time", frames(), RECEIPT)
    encoded = engine.expect(wire.Encoded)
    assert (encoded.id, encoded.failures) == ("a", {})
    assert encoded.seconds > 0


def test_what_was_encoded_is_found_with_its_receipt(engine: EngineProcess, key: bytes) -> None:
    engine.connection.send(wire.Lookup("a", key))
    assert engine.expect(wire.Features) == wire.Features("a", True, RECEIPT)


def test_a_forgotten_key_is_not_found(engine: EngineProcess, key: bytes) -> None:
    engine.connection.send(wire.Forget(key[:-1]))
    engine.connection.send(wire.Lookup("a", key))
    assert not engine.expect(wire.Features).found


def test_a_key_that_is_forgotten_while_it_is_encoded_is_not_found(engine: EngineProcess) -> None:
    engine.encode("a", b"deleted meanwhile", frames(), RECEIPT)
    engine.connection.send(wire.Forget(b"deleted"))
    assert not engine.expect(wire.Encoded).failures
    engine.connection.send(wire.Lookup("b", b"deleted meanwhile"))
    assert not engine.expect(wire.Features).found


def fetched(engine: EngineProcess, key: bytes) -> tuple[wire.TokenData, torch.Tensor]:
    engine.connection.send(wire.Fetch("f", key))
    message, (fd,) = engine.receive()
    assert isinstance(message, wire.TokenData)
    with open(fd, "rb") as file:  # noqa: PTH123 - a descriptor has no path
        file.seek(0)
        data = file.read()
    assert len(data) == message.num_bytes
    return message, load(data)["tokens"]


def test_fetched_tokens_are_those_of_the_model(engine: EngineProcess, key: bytes, chat: VideoChat) -> None:
    message, tokens = fetched(engine, key)
    expected = chat.encode(torch.from_numpy(frames())[None])[0]
    torch.testing.assert_close(tokens, expected, rtol=1e-4, atol=1e-4)
    assert (message.id, message.shape, message.dtype) == ("f", [tiny.P + 1, tiny.D], "float32")


def test_clips_of_different_lengths_sent_at_once_get_their_own_tokens(
    engine: EngineProcess, chat: VideoChat
) -> None:
    clips = {f"mixed {n}": frames(2 if n % 3 else 4, seed=n) for n in range(12)}
    for name, clip in clips.items():
        engine.encode(name, name.encode(), clip, {"name": name})
    answered = [engine.expect(wire.Encoded) for _ in clips]
    assert sorted(each.id for each in answered) == sorted(clips)
    for name, clip in clips.items():
        expected = chat.encode(torch.from_numpy(clip)[None])[0]
        torch.testing.assert_close(fetched(engine, name.encode())[1], expected, rtol=1e-4, atol=1e-4)


def locally(chat: VideoChat, options: GenerateOptions, *, with_video: bool = True) -> str:
    tokens = chat.encode(torch.from_numpy(frames())[None])[0]
    engine = BatchEngine(chat.backend.lm, max_batch=2)
    engine.start()
    videos = [VideoTokens(b"k", tokens)] if with_video else []
    text = "".join(chat.answer(engine, [Turn("user", QUESTION)], videos, options))
    engine.stop()
    return text


def test_an_answer_is_the_models_own_and_ends_once(
    engine: EngineProcess, key: bytes, chat: VideoChat
) -> None:
    engine.ask("a", key, QUESTION, max_tokens=20)
    text, done = engine.answer()
    assert text == locally(chat, GenerateOptions(max_tokens=20))
    assert isinstance(done, wire.Done)
    assert (done.id, done.reason, set(done.seconds)) == ("a", "length", {"queue", "prefill", "decode"})
    engine.connection.send(wire.AskStats("next"))
    assert engine.expect(wire.Stats).id == "next"  # nothing came after the terminal message


def test_usage_counts_the_prompt_the_video_and_the_answer(
    engine: EngineProcess, key: bytes, chat: VideoChat
) -> None:
    text = "a question that no other test asks"
    video = VideoTokens(key, torch.zeros(tiny.P + 1, tiny.D))
    prompt = chat.request([Turn("user", text)], [video], GenerateOptions(), request_id="a").num_prompt_tokens
    cached: list[int] = []
    for request_id in "ab":
        engine.ask(request_id, key, text, max_tokens=20)
        _, done = engine.answer()
        assert isinstance(done, wire.Done)
        cached.append(done.usage.pop("cached"))
        assert done.usage == {"prompt": prompt, "completion": 20, "video": tiny.P + 1}
    assert cached[0] < cached[1] == prompt - 1  # of the same prompt all but the last token


def test_an_empty_key_asks_without_a_video(engine: EngineProcess, chat: VideoChat) -> None:
    engine.ask("a", b"", QUESTION, max_tokens=20)
    text, done = engine.answer()
    assert text == locally(chat, GenerateOptions(max_tokens=20), with_video=False)
    assert isinstance(done, wire.Done)
    assert done.usage["video"] == 0


def test_a_stop_string_ends_the_answer_as_a_stop(engine: EngineProcess, key: bytes) -> None:
    engine.ask("a", key, QUESTION, max_tokens=40)
    whole, _ = engine.answer()
    stop = whole[4:6]
    engine.ask("b", key, QUESTION, max_tokens=40, stop=[stop])
    text, done = engine.answer()
    assert text == whole[: whole.index(stop)]
    assert isinstance(done, wire.Done)
    assert done.reason == "stop"


def test_a_cancelled_answer_ends_soon_and_once(engine: EngineProcess, key: bytes) -> None:
    def cancelled(name: str) -> wire.Done:
        engine.ask(name, key, QUESTION)
        assert isinstance(engine.receive()[0], wire.Piece)
        engine.connection.send(wire.Cancel(name))
        _, done = engine.answer()
        assert isinstance(done, wire.Done)
        assert done.id == name
        return done

    # on a busy machine an answer may be whole before its cancel arrives
    done = next(end for end in map(cancelled, "abcdefgh") if end.reason != "length")
    assert done.reason == "cancelled"
    assert done.usage["completion"] < tiny.CONTEXT // 2


def test_an_answer_that_takes_too_long_is_cancelled(engine: EngineProcess, key: bytes) -> None:
    engine.connection.send(
        wire.Ask("a", engine.model, "public", [[key, 0, 0]], [["user", QUESTION]], {}, 0.05)
    )
    _, done = engine.answer()
    assert isinstance(done, wire.Done)
    assert done.reason == "cancelled"


def test_cancelling_what_does_not_run_is_fine(engine: EngineProcess, key: bytes) -> None:
    engine.connection.send(wire.Cancel("nobody"))
    engine.ask("a", key, QUESTION, max_tokens=2)
    assert isinstance(engine.answer()[1], wire.Done)


def test_answers_at_once_do_not_mix(engine: EngineProcess, key: bytes) -> None:
    for name in ("a", "b", "c"):
        engine.ask(name, key, QUESTION, max_tokens=15)
    texts, done = {"a": "", "b": "", "c": ""}, set[str]()
    while len(done) < 3:
        message = engine.receive()[0]
        if isinstance(message, wire.Piece):
            texts[message.id] += message.text
        else:
            assert isinstance(message, wire.Done)
            done.add(message.id)
    assert len(set(texts.values())) == 1


def failed(engine: EngineProcess) -> wire.Failed:
    text, message = engine.answer()
    assert text == ""
    assert isinstance(message, wire.Failed)
    return message


def test_asking_about_an_unknown_key_fails_as_features_missing(engine: EngineProcess) -> None:
    engine.ask("a", b"never seen", QUESTION)
    failure = failed(engine)
    assert (failure.id, failure.error, failure.code) == ("a", "FeaturesMissingError", "features_missing")


def test_fetching_an_unknown_key_fails_as_features_missing(engine: EngineProcess) -> None:
    engine.connection.send(wire.Fetch("a", b"never seen"))
    assert failed(engine).code == "features_missing"


def test_a_prompt_that_is_too_long_fails_with_its_parameter(engine: EngineProcess, key: bytes) -> None:
    engine.ask("a", key, "many words " * tiny.CONTEXT)
    failure = failed(engine)
    assert (failure.error, failure.code, failure.param) == (
        "ContextLengthError",
        "context_length_exceeded",
        "messages",
    )


def test_a_bad_option_fails_with_its_parameter(engine: EngineProcess, key: bytes) -> None:
    engine.ask("a", key, QUESTION, temperature=9.0)
    failure = failed(engine)
    assert (failure.error, failure.code, failure.param) == (
        "InvalidValueError",
        "invalid_value",
        "temperature",
    )


def test_more_frames_than_the_branch_can_represent_fail_with_their_parameter(engine: EngineProcess) -> None:
    engine.encode("a", b"long", frames(18), {})
    failures = engine.expect(wire.Encoded).failures
    assert failures.keys() == {engine.model}
    assert failures[engine.model][2:] == ["invalid_value", "num_frames"]


def test_frames_that_are_shorter_than_said_fail_alone(engine: EngineProcess, key: bytes) -> None:
    fd = os.memfd_create("frames")
    os.write(fd, b"short")
    engine.connection.send(wire.Encode("a", [[engine.model, b"short"]], 4, tiny.SIDE, tiny.SIDE, {}), (fd,))
    os.close(fd)
    assert failed(engine).code == "engine_error"
    engine.ask("b", key, QUESTION, max_tokens=2)
    assert isinstance(engine.answer()[1], wire.Done)


def test_a_message_for_the_other_side_is_ignored(engine: EngineProcess) -> None:
    engine.connection.send(wire.Ready({}, []))
    engine.connection.send(wire.Lookup("a", b"never seen"))
    assert engine.expect(wire.Features).id == "a"


def test_descriptors_do_not_leak(engine: EngineProcess) -> None:
    def work(number: int) -> None:
        key = f"leak {number}".encode()
        engine.encode("a", key, frames(seed=number), {})
        engine.expect(wire.Encoded)
        fetched(engine, key)
        engine.connection.send(wire.AskStats("s"))
        engine.expect(wire.Stats)  # the engine is done with everything before

    work(0)
    before = engine.num_fds()
    for number in range(20):
        work(number)
    assert engine.num_fds() == before


def test_stats_count_what_was_done(engine: EngineProcess, key: bytes) -> None:
    before = engine.stats().values
    engine.encode("a", key + b" again", frames(), {})
    engine.expect(wire.Encoded)
    after = engine.stats()
    assert after.values["engine_encode_seconds_total"] > before["engine_encode_seconds_total"]
    assert after.values["tower_encodes_total"] - before["tower_encodes_total"] == 1
    assert after.values["feature_cache_entries"] - before["feature_cache_entries"] == 1
    assert after.values["feature_cache_bytes"] - before["feature_cache_bytes"] == (tiny.P + 1) * tiny.D * 4
    of_model = after.models[engine.model]
    assert (of_model["running"], of_model["alive"]) == (0.0, 1.0)


def test_the_page_names_every_metric_of_the_engine(engine: EngineProcess) -> None:
    stats = engine.stats()
    shown = Metrics().render(stats.values, stats.models).decode()
    found = {
        name: kind
        for name, kind in re.findall(r"# TYPE (\w+) (\w+)", shown)
        if f"# HELP {name} Reported by the engine" in shown
    }
    assert found == {name: kind for name, (kind, _, _) in documented("Of the engine process").items()}
