"""What a step log keeps, and what TensorBoard is shown."""

from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from bt_model.training.trainer.log import StepLog, read_rows


def write_rows(folder: Path, start: int, stop: int, *, sign: float = 1.0) -> None:
    log = StepLog(folder, "fit", start, with_events=True)
    for step in range(start, stop):
        log.write(step, {"loss": sign * step, "lr/a": 0.1})
    log.write_histograms(stop - 1, {"gate": torch.tensor([0.25, 0.75])})
    log.close()


def test_rows_behind_the_resumed_step_are_dropped_and_written_anew(tmp_path: Path) -> None:
    write_rows(tmp_path, 0, 6)
    write_rows(tmp_path, 4, 7, sign=-1.0)
    assert [row["loss"] for row in read_rows(tmp_path / "fit.csv")] == [0, 1, 2, 3, -4, -5, -6]


def test_a_line_that_a_crash_cut_is_dropped(tmp_path: Path) -> None:
    write_rows(tmp_path, 0, 3)
    path = tmp_path / "fit.csv"
    path.write_text(path.read_text()[:-2])
    write_rows(tmp_path, 3, 4)
    assert [row["step"] for row in read_rows(path)] == [0, 1, 3]


def test_a_float32_comes_back_from_the_log_as_it_was(tmp_path: Path) -> None:
    values = torch.rand(50, generator=torch.Generator().manual_seed(0)).tolist()
    log = StepLog(tmp_path, "fit", 0)
    for step, value in enumerate(values):
        log.write(step, {"loss": value})
    log.close()
    read = torch.tensor([row["loss"] for row in read_rows(tmp_path / "fit.csv")])
    assert torch.equal(read, torch.tensor(values))


def test_a_line_of_progress_tells_each_loss_and_the_highest_rate(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = StepLog(tmp_path, "fit", 0)
    with log.shown(1):
        log.write(0, {"loss": 3.0, "vtc": 1.0, "mbta": 2.0, "lr/a": 2e-5, "lr/b": 1e-4, "grad_norm": 9.0})
    assert capsys.readouterr().err == (
        "fit 1/1 loss 3.000, vtc 1.000, mbta 2.000, rate 0.0001, 0:00:00 left\n"
    )


def test_events_hold_every_value_and_the_gates_histogram(tmp_path: Path) -> None:
    write_rows(tmp_path, 0, 3)
    events = EventAccumulator(str(tmp_path / "fit.events"))
    events.Reload()
    assert [event.value for event in events.Scalars("loss")] == [0, 1, 2]
    assert events.Scalars("gate/mean")[0].value == 0.5
    assert events.Histograms("gate")[0].histogram_value.num == 2
