"""The grid: one row for every model of the paper's tables and figures, and for the search of a recipe.

Everything that decides a row stands here, fixed before it is run. The trunk has 6 layers, the paper's 24; its
4 branch layers are 3 here, so that the chat path passes 2 of them.
"""

from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal

from bt_model.config import BTAdapterConfig, TemporalConfig
from bt_model.errors import UnknownNameError
from bt_model.training.objectives.contrastive import LossWeights
from bt_model.training.pretrain.settings import MaskSettings

Training = Literal["none", "pretrain", "instruct"]

VTC = LossWeights(mbta=0.0, mbca=0.0)
BRANCH = BTAdapterConfig(num_layers=3, middle_scale=1.0, output_scale=1.0)
_CLIP = TemporalConfig("clip")
BOTTLENECK = 36  # of an ST-Adapter: the published share of the width, 384 of 1024


def _branch(**changes: Any) -> TemporalConfig:
    return TemporalConfig("bt_adapter", replace(BRANCH, **changes))


@dataclass(frozen=True, slots=True)
class Row:
    """One model and how it is trained; `tables`: the paper's tables ("6") and figures ("F3").

    Pre-training: `static` is the share of captions that leave the event out. Instruction tuning, as in Table
    1: projector and model learn, the language model is frozen, and `pooling` says which tokens it reads.
    """

    name: str
    about: str
    tables: tuple[str, ...]
    model: TemporalConfig = field(default_factory=_branch)
    training: Training = "pretrain"
    losses: LossWeights = field(default_factory=LossWeights)
    mask: MaskSettings = field(default_factory=partial(MaskSettings, rate=0.7))
    static: float = 0.3
    pooling: str = "patches_cls"

    @property
    def is_masked(self) -> bool:
        """Whether patches are hidden from a branch in pre-training."""
        return self.model.has_branch and self.training == "pretrain" and self.mask.rate > 0

    @property
    def has_chat_answers(self) -> bool:
        """Whether a chat model answers through it, too: in the tables that have a column of answers."""
        return self.training != "pretrain" or not {"10", "R"}.isdisjoint(self.tables)


def _stan(*, is_open: bool) -> TemporalConfig:
    return TemporalConfig("stan", replace(BRANCH, combination="add"), is_open=is_open)


CLIP = Row("clip", "CLIP, averaged over frames", ("6", "10"), _CLIP, "none")
BASE = Row("bt-adapter", "BT-Adapter: branch, gates, all losses, 70 % hidden", ("7", "10", "11", "F3", "F4"))
VTC_ONLY = Row("vtc", "branch and interaction, VTC alone", ("6", "7"), losses=VTC)

STRUCTURE = (
    Row(
        "separate-st-last", "separate-ST in the last layers, VTC", ("6",),
        TemporalConfig("separate_st", num_layers=BRANCH.num_layers), losses=VTC,
    ),
    Row("branch-alone", "branch without interaction, VTC", ("6",), _branch(interaction=False), losses=VTC),
    VTC_ONLY,
)  # fmt: skip
LOSSES = (
    Row("vtc-mbta", "VTC + MBTA", ("7",), losses=LossWeights(mbca=0.0)),
    Row("vtc-mbca", "VTC + MBCA", ("7",), losses=LossWeights(mbta=0.0)),
)
RELATED = (
    Row("st-adapter", "ST-Adapter", ("10",), TemporalConfig("st_adapter", bottleneck=BOTTLENECK), losses=VTC),
    Row(
        "stan-open",
        "STAN, CLIP trained too",
        ("10",),
        _stan(is_open=True),
        losses=VTC,
        mask=MaskSettings(rate=0.0),
    ),
    Row(
        "stan-frozen",
        "STAN, CLIP frozen",
        ("10",),
        _stan(is_open=False),
        losses=VTC,
        mask=MaskSettings(rate=0.0),
    ),
)
CHOICES = (
    Row("projection-none", "no temporal projection", ("11",), _branch(projection="none")),
    Row("projection-random", "temporal projection drawn at random", ("11",), _branch(projection="random")),
    Row("addition", "trunk and branch added", ("11",), _branch(combination="add")),
    Row(
        "concatenation",
        "trunk and branch concatenated, then projected",
        ("11",),
        _branch(combination="concat"),
    ),
)
LAYERS = tuple(
    Row(f"layers-{number}", f"{number} branch layers", ("F3",), _branch(num_layers=number))
    for number in (1, 2, 4, 5)
)
MASKS = tuple(
    Row(f"mask-{round(100 * rate)}", f"{rate:.0%} hidden", ("F4",), mask=MaskSettings(rate=rate))
    for rate in (0.0, 0.3, 0.5, 0.9)
)
CAPTIONED = Row(
    "captioned",
    "a frozen captioner of pictures has to say the captions; held, half hidden, the last fifth unmasked",
    ("R",), losses=LossWeights(caption=10.0, anchor=1.0), mask=MaskSettings(rate=0.5, unmasked=0.2),
)  # fmt: skip
_CHAT = LossWeights(chat=1.0)
RECIPES = (
    Row("tail", "the last fifth of the steps unmasked", ("R",), mask=MaskSettings(rate=0.7, unmasked=0.2)),
    Row("chat", "alignment at the layer that feeds the chat model", ("R",), losses=_CHAT),
    Row("chat-anchor", "the same, held to the trunk's mean", ("R",), losses=replace(_CHAT, anchor=1.0)),
    Row(
        "balanced", "alignment there, held, half hidden, the last fifth unmasked", ("R",),
        losses=replace(_CHAT, anchor=1.0), mask=MaskSettings(rate=0.5, unmasked=0.2),
    ),
    CAPTIONED,
)  # fmt: skip
TUNED = (
    Row("tuned-mean", "CLIP, averaged over frames", ("1",), _CLIP, "instruct"),
    Row("tuned-frames", "CLIP, all patches of all frames", ("1",), _CLIP, "instruct", pooling="frames"),
    Row("tuned-st-pooling", "ST pooling", ("1",), _CLIP, "instruct", pooling="temporal_spatial"),
    Row(
        "tuned-joint-st", "joint-ST, CLIP trained", ("1",), TemporalConfig("joint_st", is_open=True),
        "instruct", pooling="frames",
    ),
    Row(
        "tuned-separate-st-open", "separate-ST, CLIP trained", ("1",),
        TemporalConfig("separate_st", is_open=True), "instruct", pooling="frames",
    ),
    Row(
        "tuned-separate-st", "separate-ST, CLIP frozen", ("1",), TemporalConfig("separate_st"),
        "instruct", pooling="frames",
    ),
    Row("tuned-bt-adapter", "BT-Adapter, CLIP frozen", ("1",), training="instruct"),
)  # fmt: skip

NEEDED = (CLIP, BASE, VTC_ONLY)  # what every page compares
ROWS = (CLIP, BASE, *STRUCTURE, *LOSSES, *RECIPES, *RELATED, *CHOICES, *LAYERS, *MASKS, *TUNED)


def row(name: str) -> Row:
    """The row of that name.

    Raises:
        UnknownNameError: no such row.
    """
    for each in ROWS:
        if each.name == name:
            return each
    raise UnknownNameError(f"row is {name!r}; allowed: {', '.join(each.name for each in ROWS)}", param="rows")


def in_table(table: str) -> list[Row]:
    """The rows of a table or figure, in the paper's order as far as it has one."""
    return [each for each in ROWS if table in each.tables]
