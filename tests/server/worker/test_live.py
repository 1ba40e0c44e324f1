"""Windows of live sessions in a real engine process: one trunk pass a frame, tokens as those of a clip."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from server.engine import wire
from tests import tiny
from tests.server.worker.processes import EngineProcess, started
from tests.server.worker.test_worker import fetched

ROOM = 50_000  # bytes: of 19 frames
KEPT = 6


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    tiny.write_model_folder(folder)
    return folder


@pytest.fixture(scope="module")
def ready(weights: Path) -> Iterator[EngineProcess]:
    with started(weights, tiny.MODEL, "--live-window-bytes", str(ROOM)) as engine:
        engine.expect(wire.Ready)
        yield engine


@pytest.fixture
def engine(ready: EngineProcess) -> Iterator[EngineProcess]:
    yield ready
    for session in ("s", "t", "u"):
        ready.connection.send(wire.LiveClose(session))


def frames(count: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.concatenate([tiny.clips(1, 1, seed + number)[0].numpy() for number in range(count)])


def begin(engine: EngineProcess, session: str = "s", max_frames: int = KEPT) -> wire.Opened:
    engine.connection.send(wire.LiveOpen("o", session, tiny.MODEL, max_frames))
    return engine.expect(wire.Opened)


def show(engine: EngineProcess, number: int, frame: NDArray[np.uint8], session: str = "s") -> None:
    fd = os.memfd_create("frame")
    os.write(fd, frame.tobytes())
    engine.connection.send(wire.LiveFrame(f"f{session}{number}", session, number, *frame.shape[:2]), (fd,))
    os.close(fd)


def seen(engine: EngineProcess, all_frames: NDArray[np.uint8], session: str = "s") -> None:
    for number, frame in enumerate(all_frames):
        show(engine, number, frame, session)
        assert engine.expect(wire.Encoded).failures == {}


def tokens_of(engine: EngineProcess, numbers: Sequence[int], session: str = "s") -> torch.Tensor:
    key = f"live {session} {numbers}".encode()
    engine.connection.send(wire.LiveEncode("e", session, list(numbers), key, {}))
    assert engine.expect(wire.Encoded).id == "e"
    return fetched(engine, key)[1]


def clip_tokens(engine: EngineProcess, clip: NDArray[np.uint8]) -> torch.Tensor:
    engine.encode("c", b"clip", clip, {})
    assert engine.expect(wire.Encoded).failures == {}
    return fetched(engine, b"clip")[1]


def failed(engine: EngineProcess) -> wire.Failed:
    return engine.expect(wire.Failed)


@pytest.mark.parametrize("numbers", [[0], [0, 1], [5, 7, 8, 10], [5, 6, 7, 8, 9, 10]])
def test_tokens_of_a_window_are_those_of_the_same_frames_as_a_clip(
    engine: EngineProcess, numbers: list[int]
) -> None:
    begin(engine)
    shown = frames(max(numbers) + 1)
    seen(engine, shown)
    assert torch.equal(tokens_of(engine, numbers), clip_tokens(engine, shown[numbers]))


def test_frames_of_sessions_that_come_together_stay_their_own(engine: EngineProcess) -> None:
    shown = {session: frames(4, seed) for session, seed in (("s", 10), ("t", 20), ("u", 30))}
    for session in shown:
        begin(engine, session, 4)
    for number in range(4):
        for session, clip in shown.items():
            show(engine, number, clip[number], session)
    for _ in range(12):
        assert engine.expect(wire.Encoded).failures == {}
    for session, clip in shown.items():
        assert torch.equal(tokens_of(engine, range(4), session), clip_tokens(engine, clip))


def test_each_frame_passes_the_trunk_once_and_a_question_does_not(engine: EngineProcess) -> None:
    begin(engine)
    before = engine.stats().values
    seen(engine, frames(8))
    for _ in range(3):
        tokens_of(engine, [2, 4, 6, 7])
    after = engine.stats().values
    names = ("tower_encodes_total", "live_trunk_frames_total")
    assert [after[name] - before[name] for name in names] == [8, 8]


@pytest.mark.parametrize("numbers", [[1, 2], [7, 8], [-1]])
def test_frames_that_are_not_in_the_window_are_missing(engine: EngineProcess, numbers: list[int]) -> None:
    begin(engine)
    seen(engine, frames(8))
    engine.connection.send(wire.LiveEncode("e", "s", numbers, b"key", {}))
    assert failed(engine).error == "FeaturesMissingError"


def test_an_odd_number_of_frames_where_pairs_are_merged_fails_alone(engine: EngineProcess) -> None:
    begin(engine, max_frames=13)
    seen(engine, frames(13))
    engine.connection.send(wire.LiveEncode("e", "s", list(range(13)), b"key", {}))
    assert failed(engine).error == "InvalidValueError"
    assert len(tokens_of(engine, range(12))) == tiny.P + 1


def test_windows_have_a_bounded_memory(engine: EngineProcess) -> None:
    begin(engine, "s", 12)
    taken = engine.stats().values["live_window_bytes"]
    engine.connection.send(wire.LiveOpen("o", "t", tiny.MODEL, 12))
    refused = failed(engine)
    assert (refused.error, refused.code, refused.param) == ("EngineError", "overloaded", "max_frames")
    engine.connection.send(wire.LiveOpen("o", "t", tiny.MODEL, 256))
    refused = failed(engine)
    assert (refused.error, refused.param) == ("InvalidValueError", "max_frames")
    seen(engine, frames(20))
    assert engine.stats().values["live_window_bytes"] == taken <= ROOM
    engine.connection.send(wire.LiveClose("s"))
    assert engine.stats().values["live_window_bytes"] == 0
    begin(engine, "t", 12)


def test_a_session_that_is_not_known_was_lost_with_an_engine_of_before(engine: EngineProcess) -> None:
    show(engine, 0, frames(1)[0], "no such")
    assert (failed(engine).code, engine.num_fds()) == ("engine_restarted", engine.num_fds())
    engine.connection.send(wire.LiveEncode("e", "no such", [0], b"key", {}))
    assert failed(engine).code == "engine_restarted"


def test_a_frame_that_is_shorter_than_said_fails_alone(engine: EngineProcess) -> None:
    begin(engine)
    show(engine, 0, frames(1)[0])
    assert engine.expect(wire.Encoded).failures == {}
    fd = os.memfd_create("frame")
    os.write(fd, b"short")
    engine.connection.send(wire.LiveFrame("f", "s", 1, tiny.SIDE, tiny.SIDE), (fd,))
    os.close(fd)
    assert failed(engine).code == "engine_error"
    show(engine, 1, frames(1)[0])
    assert engine.expect(wire.Encoded).failures == {}
