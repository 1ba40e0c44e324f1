"""The models of docs/temporal-models.md at full size: that they can be built, and what the page counts."""

import re
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from bt_model.config import CLIP_L14, TEMPORAL_KINDS, BTAdapterConfig, TemporalConfig
from bt_model.vision.build import build_encoder
from bt_model.vision.clip import ClipVisionTower
from bt_model.vision.encoder import TemporalEncoder
from bt_model.vision.pool import POOLINGS

PAGE = Path(__file__).parents[3] / "docs" / "temporal-models.md"


@dataclass(frozen=True, slots=True)
class PaperRow:
    """A row by its tables and its name there; `pooling` is one of vision/pool.py."""

    table: str
    config: TemporalConfig
    pooling: str


def _branch(table: str, config: BTAdapterConfig) -> PaperRow:
    return PaperRow(table, TemporalConfig("bt_adapter", config), "patches")


PAPER_ROWS = {
    "clip_mean": PaperRow("1, 6, 10: CLIP, mean over frames", TemporalConfig("clip"), "patches"),
    "clip_frames": PaperRow("1: baseline, all tokens", TemporalConfig("clip"), "frames"),
    "st_pooling": PaperRow("1: ST pooling*", TemporalConfig("clip"), "temporal_spatial"),
    "joint_st": PaperRow("1: Joint-ST", TemporalConfig("joint_st", is_open=True), "frames"),
    "separate_st_open": PaperRow("1: Separate-ST", TemporalConfig("separate_st", is_open=True), "frames"),
    "separate_st": PaperRow("1: Separate-ST*", TemporalConfig("separate_st"), "frames"),
    "separate_st_4": PaperRow(
        "6: + 4-layer separate-ST", TemporalConfig("separate_st", num_layers=4), "patches"
    ),
    "branch_alone": _branch("6: + branch", BTAdapterConfig(interaction=False)),
    "bt_adapter": _branch("1, 6, 7, 10, 11: BT-Adapter", BTAdapterConfig()),
    "st_adapter": PaperRow("10: ST-Adapter", TemporalConfig("st_adapter"), "patches"),
    "stan_open": PaperRow("10: STAN(open)", TemporalConfig("stan", is_open=True), "patches"),
    "stan": PaperRow("10: STAN(frozen)", TemporalConfig("stan"), "patches"),
    "projection_none": _branch("11: without projection", BTAdapterConfig(projection="none")),
    "projection_random": _branch("11: random initialisation", BTAdapterConfig(projection="random")),
    "combination_add": _branch("11: addition", BTAdapterConfig(combination="add")),
    "combination_concat": _branch("11: concatenation", BTAdapterConfig(combination="concat")),
}


def full_size(name: str) -> TemporalEncoder:
    with torch.device("meta"):
        return build_encoder(PAPER_ROWS[name].config, ClipVisionTower(CLIP_L14))


def documented(name: str) -> list[str]:
    """The cells of a row's line."""
    rows = PAGE.read_text(encoding="utf-8").split("## What was decided")[0]
    (line,) = re.findall(rf"^\| `{name}` \|.*$", rows, re.MULTILINE)
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_every_kind_and_pooling_of_a_row_exists() -> None:
    assert {row.config.kind for row in PAPER_ROWS.values()} == set(TEMPORAL_KINDS)
    assert {row.pooling for row in PAPER_ROWS.values()} <= set(POOLINGS)


@pytest.mark.parametrize("name", PAPER_ROWS)
def test_the_documentation_counts_what_is_trained_at_full_size(name: str) -> None:
    count = full_size(name).num_trainable / 1e6
    assert documented(name)[-1] == (f"{count:.2f} M" if count else "0")


@pytest.mark.parametrize("name", PAPER_ROWS)
def test_the_documentation_names_kind_and_tokens(name: str) -> None:
    row, cells = PAPER_ROWS[name], documented(name)
    assert row.config.name in cells[1].replace("`", "")
    assert f"`{row.pooling}`" in cells[4]
    assert row.table in cells[5]


def test_a_branch_of_four_layers_has_the_published_number_of_parameters() -> None:
    spatial, temporal = 12_596_224, 5_250_048  # one layer each
    rest = 64 * 1024 + 3 * 1024  # time table, CLS, two gates
    assert full_size("bt_adapter").num_trainable == 4 * (spatial + temporal) + rest
