"""What every step tells: a row of a CSV file, TensorBoard events, a bar on the terminal, curves in a PNG.

A resumed run drops the rows after its checkpoint, whose steps are repeated, and appends to the rest.
"""

import csv
import resource
from collections import deque
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from bt_model.training.trainer.progress import StepProgress

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from torch import Tensor

Row = Mapping[str, float]

_AVERAGED = 50  # steps in the mean loss that is shown


class StepLog:
    """NAME.csv, and events below NAME.events if requested and TensorBoard is installed.

    Numbers are written with nine digits, which represent a float32 exactly.
    """

    def __init__(self, folder: Path, name: str, start: int, *, with_events: bool = False) -> None:
        self.path = folder / f"{name}.csv"
        folder.mkdir(parents=True, exist_ok=True)
        self._start = start
        self._recent = deque((row["loss"] for row in _trim(self.path, start)), _AVERAGED)
        self._progress: StepProgress | None = None
        self._file = self.path.open("a", newline="", encoding="utf-8")
        self._writer: csv.DictWriter[str] | None = None
        self._events: Any = None
        if with_events and find_spec("tensorboard") is not None:
            writer = import_module("torch.utils.tensorboard").SummaryWriter
            self._events = writer(str(folder / f"{name}.events"), purge_step=start)

    def write(self, step: int, row: Row) -> None:
        """One step; all rows have the columns of the first."""
        if self._writer is None:
            self._writer = csv.DictWriter(self._file, ["step", *row], lineterminator="\n")
            if not self._file.tell():
                self._writer.writeheader()
        self._writer.writerow({"step": step, **{name: f"{value:.9g}" for name, value in row.items()}})
        self._file.flush()
        self._recent.append(row["loss"])
        if self._progress is not None:
            self._progress.update(step + 1, _note(self.mean_loss, row), _details(row))
        if self._events is not None:
            for name, value in row.items():
                self._events.add_scalar(name, value, step)

    @property
    def mean_loss(self) -> float:
        """Over the last steps, those of earlier sessions included."""
        return sum(self._recent) / len(self._recent)

    def write_histograms(self, step: int, histograms: "Mapping[str, Tensor]") -> None:
        """Write mean and histogram of some values, such as gates, as events."""
        if self._events is None:
            return
        for name, values in histograms.items():
            self._events.add_histogram(name, values, step)
            self._events.add_scalar(f"{name}/mean", values.mean().item(), step)
        self._events.flush()

    @contextmanager
    def shown(self, num_steps: int) -> Generator[None]:
        """Tell how far the run is for the length of a block, and close the log behind it."""
        try:
            with StepProgress(self.path.stem, num_steps, self._start) as self._progress:
                yield
        finally:
            self.close()

    def close(self) -> None:
        self._file.close()
        if self._events is not None:
            self._events.close()


def _note(loss: float, row: Row) -> str:
    speed = f", {row['clips_per_second']:.1f} clips/s" if "clips_per_second" in row else ""
    return f"loss {loss:.3f}{speed}" + (f", MFU {row['mfu']:.0%}" if "mfu" in row else "")


def _details(row: Row) -> str:
    """Each loss, and the highest learning rate."""
    losses = takewhile(lambda name: not name.startswith("lr/"), row)
    shown = [f"{name} {row[name]:.3f}" for name in losses if name != "loss"]
    rates = [value for name, value in row.items() if name.startswith("lr/")]
    return ", ".join([*shown, *([f"rate {max(rates):.2g}"] if rates else [])])


def read_rows(path: Path) -> list[dict[str, float]]:
    """The rows of a step log, with their `step`."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def _trim(path: Path, start: int) -> list[dict[str, float]]:
    """Drop steps from `start` on, and a last line that a crash cut short; returns the remaining rows."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    whole = [line for line in lines[1:] if line.endswith("\n") and int(line.split(",", 1)[0]) < start]
    path.write_text("".join([lines[0], *whole]) if whole else "", encoding="utf-8")
    return read_rows(path)


def peak_memory_bytes(device: torch.device) -> int:
    """Peak memory of this process on its device; for a CPU, its peak resident memory."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


_PANELS = {
    "losses": ("loss", "vtc", "mbta", "mbca"),
    "learning rates": ("lr/",),
    "gradient norm, loss scale": ("grad_norm", "loss_scale"),
    "clips a second and device": ("clips_per_second",),
    "FLOP utilisation, data wait": ("mfu", "data_wait"),
    "memory, MB": ("memory_mb",),
}
_LOGARITHMIC = ("learning rates", "gradient norm, loss scale")
_SMOOTHED = 20  # points from which a curve is smoothed; raw values are drawn behind it


def draw_curves(log: Path, picture: Path) -> bool:
    """Draw a step log; False where matplotlib is absent or there is no step."""
    rows = read_rows(log)
    if not rows or find_spec("matplotlib") is None:
        return False
    from matplotlib.figure import Figure  # noqa: PLC0415 - an extra

    figure = Figure(figsize=(13, 7), layout="constrained")
    steps = [row["step"] for row in rows]
    for axes, (title, wanted) in zip(figure.subplots(2, 3).flat, _PANELS.items(), strict=True):
        axes.set_title(title)
        axes.set_xlabel("step")
        if title in _LOGARITHMIC:
            axes.set_yscale("log")
        for name in (name for name in rows[0] if _belongs(name, wanted)):
            _draw(axes, steps, [row[name] for row in rows], name)
        if axes.lines:
            axes.legend()
    figure.savefig(picture, dpi=100)
    return True


def _belongs(name: str, wanted: Sequence[str]) -> bool:
    return any(name == each or (each.endswith("/") and name.startswith(each)) for each in wanted)


def _draw(axes: "Axes", steps: Sequence[float], values: Sequence[float], name: str) -> None:
    window = len(values) // _SMOOTHED
    if window < 2:  # noqa: PLR2004 - nothing to average
        axes.plot(steps, values, label=name)
        return
    (line,) = axes.plot(steps, values, alpha=0.25)
    mean = np.convolve(values, np.full(window, 1 / window), "valid")
    axes.plot(steps[window - 1 :], mean, color=line.get_color(), label=name)
