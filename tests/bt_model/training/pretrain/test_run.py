"""Whole runs: over processes, over a kill, and what they leave behind."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random

import pytest
import torch

from bt_model.errors import InvalidValueError
from bt_model.training.pretrain.run import pretrain
from bt_model.training.pretrain.settings import PretrainSettings
from bt_model.training.settings import Parallel, plain
from bt_model.training.trainer.log import read_rows
from bt_model.training.trainer.parallel import Rank
from tests.bt_model.training.clips import Corpus
from tests.bt_model.training.ranks import run_ranks, write_run

pytestmark = pytest.mark.usefixtures("forked_ranks")

ROOT = Path(__file__).parents[4]
LOSSES = ("loss", "vtc", "mbta", "mbca", "grad_norm")
# with an epsilon of 1e-8, Adam makes whole steps out of gradients that are rounding errors
TWENTY = {"optimiser": {"rate": 3e-4, "clip_norm": 1.0, "eps": 1e-6}, "run": {"steps": 20}}
ALONE = Rank()


def rows(work: Path, names: Sequence[str] = LOSSES) -> list[list[float]]:
    """What a run logged, step by step."""
    return [[row[name] for name in names] for row in read_rows(work / "pretrain.csv")]


def learnt(work: Path) -> dict[str, torch.Tensor]:
    """The weights of a run's last checkpoint."""
    last = max(work.glob("pretrain-*.ckpt"))
    modules = torch.load(last, weights_only=True)["modules"]
    return {f"{part}.{name}": t for part, state in modules.items() for name, t in state.items()}


@pytest.fixture(scope="module")
def single(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty steps of one process."""
    work = tmp_path_factory.mktemp("single")
    pretrain(corpus.settings(TWENTY), work, ALONE)
    return work


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_twenty_steps_of_two_processes_are_those_of_one(
    single: Path, corpus: Corpus, tmp_path: Path, parallel: Parallel
) -> None:
    run_ranks(write_run, 2, tmp_path, plain(corpus.settings(TWENTY)), parallel)
    assert len(rows(tmp_path)) == 20
    torch.testing.assert_close(torch.tensor(rows(tmp_path)), torch.tensor(rows(single)), rtol=1e-5, atol=1e-5)
    expected = learnt(single)
    for name, tensor in learnt(tmp_path).items():
        if "k_proj.bias" not in name:  # has no effect, so no gradient but rounding, which Adam blows up
            torch.testing.assert_close(tensor, expected[name], rtol=1e-5, atol=1e-5, msg=name)


def config_of(settings: PretrainSettings, path: Path) -> Path:
    """Settings as the TOML file that a user writes."""
    lines = list[str]()
    for section, values in plain(settings).items():
        lines.append(f"[{section}]")
        given = {key: value for key, value in values.items() if not isinstance(value, dict)}
        lines += [f"{key} = {json.dumps(value)}" for key, value in given.items()]
    path.write_text("\n".join(lines))
    return path


def killed(config: Path, work: Path, after: int) -> int:
    """Start a run as a user does and kill it once it has logged so many steps; the steps that it logged."""
    command = [sys.executable, "-m", "btchat.cli", "train", "pretrain", "--config", config, "--work", work]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    log, deadline = work / "pretrain.csv", time.monotonic() + 60
    while not (log.exists() and log.read_text().count("\n") > after):
        assert process.poll() is None, "it must be alive until it is killed"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    return log.read_text().count("\n") - 1


def test_a_run_killed_at_any_step_goes_on_as_if_it_had_not_been(corpus: Corpus, tmp_path: Path) -> None:
    drawn = {
        "model": {"drop_path": 0.5},
        "optimiser": {"accumulate": 2, "epochs": 14},
        "run": {"save_every": 4},
    }
    settings = corpus.settings(drawn)
    pretrain(settings, tmp_path / "whole", ALONE)
    work = tmp_path / "killed"
    done = killed(config_of(settings, tmp_path / "run.toml"), work, after=Random().randint(5, 24))
    assert done < 42
    assert list(work.glob("*.ckpt"))
    assert not list(work.glob("*.safetensors"))
    pretrain(settings, work, ALONE)
    assert rows(work) == rows(tmp_path / "whole")
    expected = learnt(tmp_path / "whole")
    assert all(torch.equal(tensor, expected[name]) for name, tensor in learnt(work).items())


def test_a_run_that_is_done_is_only_exported_again(single: Path, corpus: Corpus) -> None:
    before = (single / "pretrain.csv").read_text()
    (single / "bt_adapter.safetensors").unlink()
    pretrain(corpus.settings(TWENTY), single, ALONE)
    assert (single / "pretrain.csv").read_text() == before
    assert (single / "bt_adapter.safetensors").exists()


def test_a_run_leaves_log_curves_events_checkpoints_and_the_adapter(single: Path) -> None:
    names = {path.name for path in single.iterdir()}
    assert names == {
        "settings.json", "pretrain.csv", "pretrain.png", "pretrain.events", "bt_adapter.safetensors",
        "pretrain-00000015.ckpt", "pretrain-00000020.ckpt",
    }  # fmt: skip


def test_a_run_is_not_resumed_with_settings_that_change_it(single: Path, corpus: Corpus) -> None:
    changed = corpus.settings(TWENTY, {"mask": {"rate": 0.25}})
    with pytest.raises(InvalidValueError, match=r"mask.rate is 0\.25; allowed: 0\.5,"):
        pretrain(changed, single, ALONE)
    pretrain(corpus.settings(TWENTY, {"run": {"keep": 1, "save_every": 9}}), single, ALONE)
