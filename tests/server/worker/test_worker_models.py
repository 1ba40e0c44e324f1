"""A real engine process with three tiny models on two towers: shared passes, lazy loading, making room."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from bt_model.assembly import load as model_folder
from server.engine import wire
from server.engine.replies import card_of
from server.worker.loader import CacheSettings, DiskLoader
from tests import tiny
from tests.server.worker.processes import EngineProcess, started, write_models

FIRST, SAME_TOWER, OTHER_TOWER = "embedded", "embedded-zeroshot", "second"
ALL = (FIRST, SAME_TOWER, OTHER_TOWER)
QUESTION = "which way does it move?"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    write_models(folder)
    return folder


@pytest.fixture(scope="module")
def engine(weights: Path) -> Iterator[EngineProcess]:
    with started(weights, FIRST, "--model", SAME_TOWER, "--model", OTHER_TOWER) as engine:
        assert engine.expect(wire.Ready).models == list(ALL)
        yield engine


def frames(num_frames: int = 4, seed: int = 0) -> NDArray[np.uint8]:
    return tiny.clips(1, num_frames, seed)[0].numpy()


def opened(engine: EngineProcess, model: str) -> wire.Opened | wire.Failed:
    engine.connection.send(wire.Open("o", model))
    message = engine.receive()[0]
    assert isinstance(message, wire.Opened | wire.Failed), message
    return message


def need(weights: Path, model: str) -> int:
    return DiskLoader([model], weights, device="cpu", cache=CacheSettings(max_batch=2)).estimate(model).total


def test_one_pass_through_each_tower_serves_all_models_and_their_answers_differ(
    engine: EngineProcess, weights: Path
) -> None:
    before = engine.stats().values["tower_encodes_total"]
    keys = {name: f"all {name}".encode() for name in ALL}
    engine.encode("e", keys, frames(), {})
    assert engine.expect(wire.Encoded).failures == {}
    assert engine.stats().values["tower_encodes_total"] == before + 2
    answers = dict[str, str]()
    for name in ALL:
        engine.ask(name, keys[name], QUESTION, model=name, max_tokens=20)
        answers[name], done = engine.answer()
        assert isinstance(done, wire.Done)
    assert len(set(answers.values())) == 3


def test_tokens_made_together_are_each_models_own(engine: EngineProcess, weights: Path) -> None:
    keys = {name: f"own {name}".encode() for name in ALL}
    engine.encode("e", keys, frames(seed=3), {})
    engine.expect(wire.Encoded)
    for name in ALL:
        engine.connection.send(wire.Fetch("f", keys[name]))
        message, (fd,) = engine.receive()
        assert isinstance(message, wire.TokenData)
        chat = model_folder.load(name, weights, device="cpu")
        expected = chat.encode(torch.from_numpy(frames(seed=3))[None])[0]
        got = load_file(f"/proc/self/fd/{fd}")["tokens"]
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


def test_a_model_that_refuses_the_clip_leaves_it_to_the_others(weights: Path) -> None:
    """Without a branch any number of frames will do."""
    with started(weights, FIRST, "--model", "embedded-clip") as engine:
        engine.expect(wire.Ready)
        engine.encode("e", {FIRST: b"1", "embedded-clip": b"2"}, frames(2 * tiny.MAX_FRAMES + 2), {})
        failures = engine.expect(wire.Encoded).failures
        assert {name: said[2:] for name, said in failures.items()} == {FIRST: ["invalid_value", "num_frames"]}
        for key, is_found in ((b"1", False), (b"2", True)):
            engine.connection.send(wire.Lookup("l", key))
            assert engine.expect(wire.Features).found is is_found


def test_models_are_loaded_when_they_are_first_used(weights: Path) -> None:
    with started(weights, FIRST, "--model", SAME_TOWER, "--model", OTHER_TOWER) as engine:
        ready = engine.expect(wire.Ready)
        assert (card_of(ready.card).id, ready.models) == (FIRST, list(ALL))
        told = engine.connection.loading
        assert told == [wire.Loading(FIRST, number, len(told)) for number in range(1, len(told) + 1)]
        assert len(told) > 1
        assert engine.stats().models.keys() == {FIRST}
        answer = opened(engine, OTHER_TOWER)
        assert isinstance(answer, wire.Opened)
        assert told[-1].model == OTHER_TOWER
        assert card_of(answer.card) == model_folder.load(OTHER_TOWER, weights, device="cpu").card
        engine.ask("a", b"", QUESTION, model=SAME_TOWER, max_tokens=2)
        assert isinstance(engine.answer()[1], wire.Done)
        assert engine.holding == [[FIRST, OTHER_TOWER], [FIRST, OTHER_TOWER, SAME_TOWER]]
        stats = engine.stats()
        assert stats.models.keys() == set(ALL)
        assert (stats.values["models_loaded"], stats.values["model_loads_total"]) == (3, 3)


def test_first_uses_at_once_load_once(weights: Path) -> None:
    with started(weights, FIRST, "--model", OTHER_TOWER) as engine:
        engine.expect(wire.Ready)
        for n in range(6):
            engine.connection.send(wire.Open(str(n), OTHER_TOWER))
        assert sorted(engine.expect(wire.Opened).id for _ in range(6)) == list("012345")
        assert engine.stats().values["model_loads_total"] == 2


def test_under_a_limit_the_least_recently_used_is_unloaded_and_its_tokens_stay(weights: Path) -> None:
    limit = sum(need(weights, name) for name in ALL) - 1
    flags = ["--model", SAME_TOWER, "--model", OTHER_TOWER, "--model-memory-bytes", str(limit)]
    with started(weights, FIRST, *flags) as engine:
        engine.expect(wire.Ready)
        engine.encode("e", b"key", frames(), {})
        engine.expect(wire.Encoded)
        engine.ask("a", b"key", QUESTION, max_tokens=8)
        before, _ = engine.answer()
        for model in (OTHER_TOWER, SAME_TOWER):
            assert isinstance(opened(engine, model), wire.Opened)
        assert engine.holding[-1] == [OTHER_TOWER, SAME_TOWER]
        stats = engine.stats().values
        assert (stats["model_unloads_total"], stats["models_loaded"]) == (1, 2)
        assert stats["model_memory_bytes"] <= limit
        engine.ask("b", b"key", QUESTION, max_tokens=8)  # comes back by itself
        assert engine.answer()[0] == before
        assert engine.holding[-1] == [SAME_TOWER, FIRST]


def test_a_model_that_answers_is_not_unloaded_and_the_other_is_refused_with_figures(weights: Path) -> None:
    limit = need(weights, FIRST) + 1
    with started(weights, FIRST, "--model", OTHER_TOWER, "--model-memory-bytes", str(limit)) as engine:
        engine.expect(wire.Ready)
        engine.ask("a", b"", QUESTION)
        assert isinstance(engine.receive()[0], wire.Piece)
        engine.connection.send(wire.Open("o", OTHER_TOWER))
        while isinstance(message := engine.receive()[0], wire.Piece):
            pass
        assert isinstance(message, wire.Failed)
        assert (message.error, message.code) == ("EngineError", "model_memory")
        assert f"{OTHER_TOWER} needs" in message.message
        assert f"in use ({FIRST})" in message.message
        engine.connection.send(wire.Cancel("a"))
        engine.answer()
        assert isinstance(opened(engine, OTHER_TOWER), wire.Opened)


def test_a_first_model_over_the_limit_refuses_the_start(weights: Path) -> None:
    with started(weights, FIRST, "--model-memory-bytes", "1") as engine:
        line = engine.expect(wire.StartFailed).message
        assert line.startswith(f"{FIRST} needs ")
        assert line.endswith("models may take 0.0 MiB")
        assert engine.wait() == 1


def test_the_first_model_must_load_and_another_may_fail_by_file_and_tensor(
    weights: Path, tmp_path: Path
) -> None:
    write_models(tmp_path)
    path = tmp_path / "second" / "clip" / "model.safetensors"
    tensors = load_file(path)
    del tensors["vision_model.encoder.layers.0.mlp.fc1.weight"]
    save_file(tensors, path)
    with started(tmp_path, OTHER_TOWER, "--model", FIRST) as engine:
        assert "layers.0.mlp.fc1.weight" in engine.expect(wire.StartFailed).message
        assert engine.wait() == 1
    with started(tmp_path, FIRST, "--model", OTHER_TOWER) as engine:
        engine.expect(wire.Ready)
        failure = opened(engine, OTHER_TOWER)
        assert isinstance(failure, wire.Failed)
        assert failure.error == "CheckpointError"
        assert str(path.parent) in failure.message
        assert "layers.0.mlp.fc1.weight" in failure.message
        engine.encode("e", {FIRST: b"1", OTHER_TOWER: b"2"}, frames(), {})
        assert engine.expect(wire.Encoded).failures.keys() == {OTHER_TOWER}
        engine.ask("a", b"1", QUESTION, max_tokens=2)
        assert isinstance(engine.answer()[1], wire.Done)


def test_a_question_that_is_cancelled_while_its_model_loads_ends_as_cancelled(weights: Path) -> None:
    with started(weights, FIRST, "--model", OTHER_TOWER) as engine:
        engine.expect(wire.Ready)
        engine.ask("a", b"", QUESTION, model=OTHER_TOWER)
        engine.connection.send(wire.Cancel("a"))
        _, done = engine.answer()
        assert isinstance(done, wire.Done)
        assert done.reason == "cancelled"


@pytest.mark.parametrize(("names", "complaint"), [((FIRST, "none"), "none"), ((FIRST, "twin"), "same id")])
def test_names_that_cannot_be_served_refuse_the_start(
    weights: Path, tmp_path: Path, names: tuple[str, str], complaint: str
) -> None:
    write_models(tmp_path)
    twin = (tmp_path / "tiny" / f"{FIRST}.model.json").read_text()
    (tmp_path / "tiny" / "twin.model.json").write_text(twin)
    with started(tmp_path, names[0], "--model", names[1]) as engine:
        assert complaint in engine.expect(wire.StartFailed).message
        assert engine.wait() == 1
