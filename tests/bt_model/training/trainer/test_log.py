"""What a step log keeps, and what TensorBoard is shown."""

from io import StringIO
from pathlib import Path

import torch
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from bt_model.training.trainer.log import StepLog, StepProgress, read_rows


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


def lines_of(total: int, seconds_a_step: float, *, start: int = 0) -> list[str]:
    """What a run of so many steps writes where nothing is a terminal."""
    said, now = StringIO(), 0.0
    console = Console(file=said, force_terminal=False, width=40)
    with StepProgress("fit", total, start, console=console, clock=lambda: now) as progress:
        for step in range(start, total):
            now += seconds_a_step
            progress.update(step + 1, f"loss {step:.3f}, 2.5 clips/s, MFU 31%, and what else there is")
    return said.getvalue().splitlines()


def test_without_a_terminal_there_is_a_line_at_once_then_one_in_half_a_minute_and_the_last() -> None:
    lines = lines_of(100, 1.0)
    assert [line.split()[1] for line in lines] == ["1/100", "31/100", "61/100", "91/100", "100/100"]
    assert lines[0] == "fit 1/100 loss 0.000, 2.5 clips/s, MFU 31%, and what else there is, 0:01:39 left"
    assert lines[-1].endswith("0:00:00 left")


def test_slow_steps_and_a_resumed_run_tell_the_time_by_their_own_steps() -> None:
    lines = lines_of(8, 100.0, start=5)
    assert [line.split()[1] for line in lines] == ["6/8", "7/8", "8/8"]
    assert lines[0].endswith("0:03:20 left")


def test_a_terminal_gets_a_bar_and_other_ranks_say_nothing() -> None:
    said, silent = StringIO(), StringIO()
    with StepProgress("fit", 2, console=Console(file=said, force_terminal=True, width=80)) as progress:
        progress.update(2, "loss 1.000")
    assert "2/2" in said.getvalue()
    assert "left" not in said.getvalue()
    for terminal in (True, False):
        console = Console(file=silent, force_terminal=terminal)
        with StepProgress("fit", 2, is_shown=False, console=console) as progress:
            progress.update(2)
    assert not silent.getvalue()


def test_events_hold_every_value_and_the_gates_histogram(tmp_path: Path) -> None:
    write_rows(tmp_path, 0, 3)
    events = EventAccumulator(str(tmp_path / "fit.events"))
    events.Reload()
    assert [event.value for event in events.Scalars("loss")] == [0, 1, 2]
    assert events.Scalars("gate/mean")[0].value == 0.5
    assert events.Histograms("gate")[0].histogram_value.num == 2
