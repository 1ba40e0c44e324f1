"""How an engine process starts and ends."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from server.engine import wire
from tests import tiny
from tests.server.worker.processes import started

QUESTION = "which way does it move?"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    tiny.write_model_folder(folder)
    return folder


def frames() -> NDArray[np.uint8]:
    return tiny.clips(1, 4)[0].numpy()


def test_a_full_cache_drops_the_oldest_video(weights: Path) -> None:
    size = (tiny.P + 1) * tiny.D * 4
    with started(weights, tiny.MODEL, "--feature-cache-bytes", str(2 * size)) as engine:
        engine.expect(wire.Ready)
        for name in (b"1", b"2", b"3"):
            engine.encode("e", name, frames(), {})
            engine.expect(wire.Encoded)
        found = list[bool]()
        for name in (b"1", b"2", b"3"):
            engine.connection.send(wire.Lookup("l", name))
            found.append(engine.expect(wire.Features).found)
        assert found == [False, True, True]
        engine.connection.send(wire.Shutdown(0.0))
        assert engine.wait() == 0


def test_a_shutdown_lets_running_answers_finish(weights: Path) -> None:
    with started(weights, tiny.MODEL) as engine:
        engine.expect(wire.Ready)
        engine.ask("a", b"", QUESTION, max_tokens=30)
        engine.connection.send(wire.Shutdown(20.0))
        _, done = engine.answer()
        assert isinstance(done, wire.Done)
        assert done.reason == "length"
        assert engine.wait() == 0


def test_a_shutdown_drops_nothing_that_was_answered(weights: Path) -> None:
    """More than the socket holds, of which nothing is read before the end."""
    count = 2000
    with started(weights, tiny.MODEL) as engine:
        engine.expect(wire.Ready)
        for number in range(count):
            engine.connection.send(wire.AskStats(str(number)))
        engine.connection.send(wire.Shutdown(20.0))
        assert [engine.expect(wire.Stats).id for _ in range(count)] == list(map(str, range(count)))
        assert engine.wait() == 0


def test_a_closed_socket_ends_the_process_in_the_middle_of_an_answer(weights: Path) -> None:
    with started(weights, tiny.MODEL) as engine:
        engine.expect(wire.Ready)
        engine.ask("a", b"", QUESTION)
        engine.receive()
        engine.encode("b", b"b", frames(), {})
        engine.connection.close()
        assert engine.wait() == 0
        assert engine.process.stderr is not None
        assert "Traceback" not in engine.process.stderr.read()


def test_bad_weights_are_told_by_file_and_tensor_and_end_the_process(weights: Path, tmp_path: Path) -> None:
    tiny.write_model_folder(tmp_path)
    path = tmp_path / "tiny" / "clip" / "model.safetensors"
    tensors = load_file(path)
    del tensors["vision_model.encoder.layers.0.mlp.fc1.weight"]
    save_file(tensors, path)
    with started(tmp_path, tiny.MODEL) as engine:
        message = engine.expect(wire.StartFailed).message
        assert str(path.parent) in message
        assert "layers.0.mlp.fc1.weight" in message
        assert "\n" not in message
        assert engine.wait() == 1
        assert engine.process.stderr is not None
        assert "Traceback" not in engine.process.stderr.read()
