"""What a long piece of work says on a terminal, and in a log file."""

from io import StringIO

from rich.console import Console

from bt_model.training.trainer.progress import StepProgress


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


def test_what_is_told_twice_or_has_not_begun_is_no_line_and_details_stand_behind_the_note() -> None:
    said = StringIO()
    with StepProgress("clips", 2, console=Console(file=said, force_terminal=False)) as progress:
        for done in (0, 2, 2):
            progress.update(done, "train", "vtc 1.000")
    assert said.getvalue() == "clips 2/2 train, vtc 1.000, 0:00:00 left\n"


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
