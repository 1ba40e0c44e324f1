"""The rows of the paper's tables that compare temporal models: which model, and which tokens reach the LLM.

Sizes are those of CLIP ViT-L/14; for another tower, `dataclasses.replace` what does not fit. Choices that the
paper leaves open: docs/temporal-models.md, "What was decided where the paper is silent".
"""

from dataclasses import dataclass

from bt_model.config import BTAdapterConfig, TemporalConfig


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
