"""Figures 3 and 4 with intervals, and the recipes, as PNG files."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from lab.evidence.claims import share_of
from lab.evidence.rows import BASE, CLIP, Row, in_table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from lab.evidence.study import Study

_LINES = {"twins": "twins told apart", "first": "R@1", "static": "static"}
_CEILING = 0.5


def draw_all(folder: Path, study: "Study") -> dict[str, str]:
    """Write the figures into `folder`; their file names by table, none where matplotlib is absent."""
    if find_spec("matplotlib") is None:
        return {}
    folder.mkdir(parents=True, exist_ok=True)
    layers = sorted(in_table("F3"), key=lambda row: row.model.branch.num_layers)
    masks = sorted(in_table("F4"), key=lambda row: row.mask.rate)
    _draw(
        folder / "layers.png", study, layers, [row.model.branch.num_layers for row in layers], "branch layers"
    )
    _draw(folder / "masks.png", study, masks, [row.mask.rate for row in masks], "share of patches hidden")
    _scatter(folder / "recipes.png", study, [CLIP, BASE, *in_table("R")])
    names = {"F3": "layers.png", "F4": "masks.png", "R": "recipes.png"}
    return {table: f"{folder.name}/{name}" for table, name in names.items()}


def _draw(path: Path, study: "Study", rows: Sequence[Row], positions: Sequence[float], label: str) -> None:
    from matplotlib.figure import Figure  # noqa: PLC0415 - an extra

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    known = [
        (x, study.results[row.name])
        for x, row in zip(positions, rows, strict=True)
        if row.name in study.results
    ]
    for measure, name in _LINES.items():
        points = [(x, share_of(results, measure)) for x, results in known if results[0].has(measure)]
        values = [share.value for _, share in points]
        below = [share.value - share.low for _, share in points]
        above = [share.high - share.value for _, share in points]
        axes.errorbar([x for x, _ in points], values, [below, above], label=name, capsize=3, marker="o")
    _finish(axes, label, "share right")
    figure.savefig(path, dpi=110)


def _scatter(path: Path, study: "Study", rows: Sequence[Row]) -> None:
    from matplotlib.figure import Figure  # noqa: PLC0415 - an extra

    figure = Figure(figsize=(6, 4.5), layout="constrained")
    axes = figure.subplots()
    for row in rows:
        if row.name not in study.results:
            continue
        results = study.results[row.name]
        static, chat = share_of(results, "chat static"), share_of(results, "chat")
        axes.errorbar(
            static.value, chat.value,
            [[chat.value - chat.low], [chat.high - chat.value]],
            [[static.value - static.low], [static.high - static.value]],
            marker="o", capsize=2, label=row.name,
        )  # fmt: skip
    _finish(axes, "static answers right", "answers about order right")
    figure.savefig(path, dpi=110)


def _finish(axes: "Axes", x: str, y: str) -> None:
    axes.axhline(_CEILING, color="grey", linestyle=":", label="blind to order")
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.legend(fontsize="small")
