"""Rows of the grid: each is told when it is done, and no process outlives the run that started it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lab.evidence import study
from lab.evidence.bench import StudySize
from lab.evidence.rows import row

ROOT = Path(__file__).parents[3]
PARENT = """
import os, time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from lab.evidence.study import end_with_parent

if __name__ == "__main__":
    spawn = get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn, initializer=end_with_parent) as pool:
        print(pool.submit(os.getpid).result(), flush=True)
        pool.submit(time.sleep, 600).result()
"""


def is_running(pid: int) -> bool:
    """A process that ended but was not waited for is a zombie, which does nothing."""
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z"


def test_a_worker_ends_with_a_parent_that_was_killed(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    checkout = {**os.environ, "PYTHONPATH": str(ROOT)}  # the laboratory is not installed
    parent = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True, env=checkout)
    assert parent.stdout is not None
    worker = int(parent.stdout.readline())
    assert is_running(worker)
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 20
    while is_running(worker) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not is_running(worker)


def test_what_is_missing_is_run_and_told_row_by_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[tuple[str, int]] = []
    monkeypatch.setattr(study, "set_up", lambda *_given, **_more: None)
    monkeypatch.setattr(study, "_run_row", lambda task, **_more: ran.append(task))
    there = study.result_path(tmp_path, row("vtc"), 0)
    there.parent.mkdir(parents=True)
    there.touch()
    rows = [row("clip"), row("vtc")]
    told = study.run_rows(tmp_path, rows, (0, 1), size=StudySize(), precision="float32")
    assert list(told) == ["clip, seed 0: 1 of 2 runs done", "vtc, seed 1: 2 of 2 runs done"]
    assert ran == [("clip", 0), ("vtc", 1)]
