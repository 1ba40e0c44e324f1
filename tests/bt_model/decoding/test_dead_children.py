"""Children that hang, die, are given up on, or do not come: each costs itself, and nobody waits for ever."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError
from pathlib import Path
from threading import Timer
from typing import Any

import pytest

from bt_model.decoding import pool as pool_module
from bt_model.decoding import process
from bt_model.decoding.decoded import Decoded
from bt_model.decoding.pool import DecodePool
from bt_model.errors import DecodeTimeoutError, EngineError, VideoError
from tests.bt_model.decoding.pools import (
    FOUR,
    SIZE,
    is_there,
    kill_all,
    open_files,
    seen,
    stop_child,
    until,
    until_ready,
)
from tests.clips import write_clip
from tests.faulty_child import COMMAND, with_fault


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clips") / "a.mp4")


@pytest.fixture
def pool() -> Iterator[DecodePool]:
    with DecodePool(1, seconds=5) as pool:
        yield pool


def end_soon(child: int, death: signal.Signals) -> None:
    """A stopped child goes on in a moment, to its death."""
    Timer(0.1, lambda: (os.kill(child, death), os.kill(child, signal.SIGCONT))).start()


def test_a_child_that_hangs_is_killed_in_time(clip: Path) -> None:
    with DecodePool(1, seconds=0.3) as pool:
        hanging = stop_child(pool)
        begin = time.monotonic()
        with pytest.raises(DecodeTimeoutError, match=r"0\.3 s"):
            pool.decode(clip, FOUR, [SIZE], 8).result()
        assert time.monotonic() - begin < 1.3
        until(lambda: not is_there(hanging))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_all_processes_of_a_service_ends_no_decode(
    pool: DecodePool, clip: Path, number: signal.Signals
) -> None:
    child = stop_child(pool)
    end_soon(child, number)
    assert pool.decode(clip, FOUR, [SIZE], 8).result().num_frames == 4
    assert pool.pids == [child]


@pytest.mark.parametrize("death", [signal.SIGABRT, signal.SIGSEGV])
def test_a_child_that_dies_is_a_bad_video(pool: DecodePool, clip: Path, death: signal.Signals) -> None:
    end_soon(stop_child(pool), death)
    with pytest.raises(VideoError) as caught:
        pool.decode(clip, FOUR, [SIZE], 8).result()
    assert caught.value.code == "undecodable_video"
    assert str(caught.value.__cause__) == "the decoder died of it"


def test_a_child_that_is_killed_at_work_is_not_its_file_s_fault(pool: DecodePool, clip: Path) -> None:
    end_soon(killed := stop_child(pool), signal.SIGKILL)
    with pool.decode(clip, FOUR, [SIZE], 8).result() as frames:
        assert frames.num_frames == 4
    assert pool.pids != [killed]


def test_a_file_at_which_two_children_are_killed_is_a_bad_video(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "_COMMAND", COMMAND)
    path = tmp_path / "a.mp4"
    path.write_bytes(with_fault(clip.read_bytes(), "killed"))
    with DecodePool(1) as pool:
        known, bad, good = pool.pids, pool.probe(path), pool.probe(clip)
        with pytest.raises(VideoError, match="cannot be decoded"):
            bad.result()
        assert good.result().facts.num_frames == 30
        assert pool.pids[0] > known[0] + 1, "two others were started"


@pytest.mark.parametrize("fault", ["bomb", "broken"])
def test_a_decoder_that_misbehaved_gets_no_other_file(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    monkeypatch.setattr(process, "_COMMAND", COMMAND)
    path = tmp_path / "a.mp4"
    path.write_bytes(with_fault(clip.read_bytes(), fault))
    with DecodePool(1) as pool:
        used = pool.pids
        with pytest.raises(VideoError) as caught:
            pool.probe(path).result()
        assert caught.value.code == {"bomb": "video_too_large", "broken": "undecodable_video"}[fault]
        until_ready(pool)
        assert pool.pids != used


def test_a_child_that_uses_up_its_processor_time_is_too_slow(pool: DecodePool, clip: Path) -> None:
    end_soon(stop_child(pool), signal.SIGXCPU)
    with pytest.raises(DecodeTimeoutError):
        pool.probe(clip).result()


def test_a_file_that_crashes_decord_is_read_with_pyav(clip: Path) -> None:
    with DecodePool(1, reader="decord", seconds=5) as pool:
        with pool.decode(clip, FOUR, [SIZE], 8).result() as decoded:
            assert decoded.reader == "decord"
        for death in (signal.SIGABRT, signal.SIGSEGV, signal.SIGKILL):
            until_ready(pool)
            end_soon(stop_child(pool), death)
            with pool.decode(clip, FOUR, [SIZE], 8).result() as decoded:
                assert decoded.reader == "pyav"


def test_the_pool_is_full_again_after_a_death(pool: DecodePool, clip: Path) -> None:
    os.kill(pool.pids[0], signal.SIGKILL)
    with contextlib.suppress(VideoError):  # unless the death is noticed before the file is handed over
        pool.probe(clip).result()
    until_ready(pool)
    assert pool.probe(clip).result().facts.num_frames == 30


def test_a_caller_that_gives_up_costs_only_its_own_child(pool: DecodePool, clip: Path) -> None:
    before = open_files()
    child = stop_child(pool)
    given_up = pool.decode(clip, FOUR, [SIZE], 8)
    until(lambda: pool.num_idle == 0)
    assert given_up.cancel()
    with pytest.raises(CancelledError):
        given_up.result()
    until(lambda: not is_there(child), seconds=2)
    assert pool.probe(clip).result().facts.num_frames == 30
    until_ready(pool)
    assert open_files() == before


def test_frames_that_come_for_one_who_has_just_given_up_are_given_back(
    pool: DecodePool, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, child = open_files(), stop_child(pool)
    given_up = pool.decode(clip, FOUR, [SIZE], 8)

    def just_in_time(*values: Any) -> Decoded:
        assert given_up.cancel()
        return Decoded(*values)

    monkeypatch.setattr(process, "Decoded", just_in_time)
    os.kill(child, signal.SIGCONT)
    until(lambda: not is_there(child))
    until_ready(pool)
    assert open_files() == before


def test_who_gives_up_before_his_turn_costs_no_child(pool: DecodePool, clip: Path) -> None:
    child = stop_child(pool)
    first, second = pool.probe(clip), pool.probe(clip)
    until(lambda: pool.num_idle == 0)
    second.cancel()
    os.kill(child, signal.SIGCONT)
    assert first.result().facts.num_frames == 30
    assert pool.probe(clip).result().facts.num_frames == 30
    assert pool.pids == [child]


def test_closing_ends_a_child_at_work_and_tells_who_waits_for_one(clip: Path) -> None:
    with DecodePool(1) as pool:
        child = stop_child(pool)
        at_work, waiting = pool.probe(clip), pool.probe(clip)
        until(lambda: pool.num_idle == 0)
    with pytest.raises(VideoError):
        at_work.result()
    with pytest.raises(EngineError, match="stopping"):
        waiting.result()
    assert not is_there(child)


def test_a_child_that_died_before_it_saw_the_file_is_no_bad_video(pool: DecodePool, clip: Path) -> None:
    kill_all(pool)
    assert pool.probe(clip).result().facts.num_frames == 30


def test_children_that_cannot_be_started_now_are_started_later(
    pool: DecodePool, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(sys, "executable", "/nowhere/python")
        kill_all(pool)
        waiting = pool.probe(clip)
        time.sleep(0.3)
        assert not waiting.done()
    assert waiting.result(20).facts.num_frames == 30


def test_who_waits_is_told_once_no_child_has_started_for_long(
    pool: DecodePool, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    monkeypatch.setattr(pool_module, "_PATIENCE", 0.2)
    kill_all(pool)
    with pytest.raises(EngineError, match="do not start"):
        pool.probe(clip).result(10)


def test_a_child_lives_under_its_limits(pool: DecodePool) -> None:
    rows = {line[:26].strip(): line[26:].split()[:2] for line in seen(pool.pids[0], "limits").splitlines()}
    assert rows["Max file size"] == ["0", "0"]
    assert rows["Max core file size"] == ["0", "0"]
    assert rows["Max open files"] == ["64", "64"]
    assert rows["Max address space"] == [str(4 * 1024**3)] * 2


def test_a_limit_that_is_lower_already_stays() -> None:
    script = (
        "import os, resource\n"
        "from bt_model.decoding.sandbox import ChildLimits\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))\n"
        "from bt_model.decoding import sandbox\n"
        "sandbox._set_limits(ChildLimits(open_files=64), has_threads=False)\n"
        "print(*resource.getrlimit(resource.RLIMIT_NOFILE))\n"
    )
    out = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, check=True).stdout
    assert out.split() == [b"40", b"40"]


def test_a_child_sees_nothing_of_our_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BTCHAT_TEST_KEY", "canary")
    with DecodePool(1) as pool:
        assert "canary" not in seen(pool.pids[0], "environ")


def test_a_child_dies_with_its_parent() -> None:
    script = (
        "import os\n"
        "from bt_model.decoding.pool import DecodePool\n"
        "pool = DecodePool(1)\n"
        "pool.start()\n"
        "os.kill(pool.pids[0], 19)\n"  # stopped, so that it cannot notice the hang-up
        "print(pool.pids[0], flush=True)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    out = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, check=False).stdout
    orphan = Path("/proc", out.split()[0].decode())
    until(lambda: not orphan.exists() or "\nState:\tZ" in (orphan / "status").read_text(), seconds=2)
