"""The rows of the paper's tables at full size: that they can be built, and what the documentation counts."""

import re
from pathlib import Path

import pytest
import torch

from bt_model.config import CLIP_L14, TEMPORAL_KINDS
from bt_model.vision.build import build_encoder
from bt_model.vision.clip import ClipVisionTower
from bt_model.vision.encoder import TemporalEncoder
from bt_model.vision.pool import POOLINGS
from lab.evidence.paper_rows import PAPER_ROWS

PAGE = Path(__file__).parents[3] / "docs" / "temporal-models.md"


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
