"""The columns of a step log as curves in a PNG."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bt_model.training.log import read_rows

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_PANELS = {
    "losses": ("loss", "vtc", "mbta", "mbca"),
    "learning rates": ("lr/",),
    "gradient norm, loss scale": ("grad_norm", "loss_scale"),
    "clips a second and device": ("clips_per_second",),
    "FLOP utilisation, data wait": ("mfu", "data_wait"),
    "memory, MB": ("memory_mb",),
}
_LOGARITHMIC = ("learning rates", "gradient norm, loss scale")
_SMOOTHED = 20  # curves of this many points; the raw values stay behind them


def draw_curves(log: Path, picture: Path) -> bool:
    """Draw a step log (bt_model/training/log.py); False where matplotlib is absent or there is no step."""
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
