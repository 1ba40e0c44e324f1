"""A batch on its way from a row of a table to its gradient: the files are those that docs/flow.md lists."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from bt_model.decoding import process
from bt_model.training.pretrain.run import pretrain
from bt_model.training.trainer.parallel import Rank
from tests.bt_model.training.clips import Corpus
from tests.bt_model.training.walk import CHILD, TRAINER
from tests.stacks import ROOT, Recorder, Stack, documented, files_along, uninstall

RUN = "bt_model/training/pretrain/run.py"
PROCESSES = {"bt_model/decoding/process.py": "bt_model/decoding/child.py"}
MOST = 14


@pytest.fixture
def stacks(corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Stack]:
    """One step, really run: the stacks of the trainer up to the child's, the child's, and the rest."""
    reading, writing = os.pipe()

    def started(connection: socket.socket) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-P", "-m", "tests.bt_model.training.walk"]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        return subprocess.Popen(command, stdin=connection.fileno(), stderr=writing, env=environment)

    monkeypatch.setattr(process, "_started", started)
    settings = corpus.settings({"run": {"steps": 1}, "data": {"workers": 1}})
    found = list[Stack]()
    Recorder(TRAINER, found.append).install()
    try:
        pretrain(settings, tmp_path / "work", Rank())
    finally:
        uninstall()
        os.close(writing)
    with os.fdopen(reading) as pipe:
        of_child: list[Stack] = [json.loads(line) for line in pipe]
    asked = next(number for number, stack in enumerate(found) if stack[-1] in PROCESSES)
    return [*found[: asked + 1], *of_child, *found[asked + 1 :]]


def test_the_files_are_those_that_the_page_lists(stacks: list[Stack]) -> None:
    assert len(stacks) == len(TRAINER) + len(CHILD), "every point was passed"
    walk = files_along(stacks, RUN, PROCESSES)
    assert walk == documented("A pre-training batch, file by file")
    assert len(walk) <= MOST
