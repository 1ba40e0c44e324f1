"""What the named settings say, against the tables of the paper and of the published configuration."""

from pathlib import Path
from typing import Any

import pytest

from bt_model.errors import InvalidValueError, UnknownNameError
from bt_model.training.plan import PUBLISHED_TOWERS
from bt_model.training.presets import preset, preset_names
from bt_model.training.pretrain.cost import meta_pretrain_step
from bt_model.training.pretrain.settings import PretrainSettings
from bt_model.training.settings import settings_from
from bt_model.training.trainer.optimiser import parameter_groups
from btchat.commands.weights.manifest import read_manifest


def settings(name: str) -> PretrainSettings:
    return settings_from(PretrainSettings, preset("pretrain", name))


def rates(name: str) -> dict[str, tuple[Any, int]]:
    """Learning rate and number of parameters by group, of the full size."""
    given = settings(name)
    family = "eva" if name == "published-eva" else "clip"
    groups = parameter_groups(
        meta_pretrain_step(given, PUBLISHED_TOWERS[family]).learning(),
        given.optimiser.rate,
        given.optimiser.rates,
    )
    return {g["name"]: (pytest.approx(g["lr"]), sum(p.numel() for p in g["params"])) for g in groups}


def test_the_paper_says_640_clips_32_tokens_equal_losses_and_no_half_precision() -> None:
    paper = settings("paper")
    assert (paper.optimiser.batch, paper.data.tokens, paper.run.precision) == (640, 32, "float32")
    assert (paper.loss.vtc, paper.loss.mbta, paper.loss.mbca) == (1, 1, 1)
    assert (paper.mask.rate, paper.mask.layout, paper.model.middle_scale) == (0.7, "tube", 1.0)
    assert rates("paper") == {"base": (2e-6, 72_242_432)}


def test_the_published_configuration_has_its_rates_by_longest_name() -> None:
    assert rates("published") == {
        "adapter": (2e-5, 50_451_456),
        "adapter.temporal": (2e-4, 21_000_192),
        "adapter.balance": (2e-4, 2_048),
        "extra_proj": (2e-5, 788_736),
    }


def test_the_published_configuration_is_that_of_its_file() -> None:
    given = settings("published")
    assert (given.optimiser.batch, given.data.tokens, given.run.precision) == (416, 64, "float16")
    assert (given.loss.vtc, given.loss.mbta, given.loss.mbca, given.loss.gather) == (1, 0.1, 0.1, "published")
    assert (given.model.middle_scale, given.model.output_scale, given.model.drop_path) == (1e2, 1e4, 0.1)
    assert given.mask.layout == "published"
    schedule = given.schedule(6010)
    assert (schedule.clip_norm, schedule.betas, schedule.eps) == (5.0, (0.9, 0.98), 1e-8)
    assert schedule.weight_decay == 0.05
    assert schedule.factor(6009) == pytest.approx(0.970, abs=5e-4)


def test_eva_has_plain_sums_two_losses_and_no_faster_temporal_layers() -> None:
    given = settings("published-eva")
    assert (given.loss.vtc, given.loss.mbta, given.loss.mbca) == (1, 0, 0.1)
    assert (given.optimiser.batch, given.data.tokens) == (128, 77)
    assert rates("published-eva") == {"adapter": (2e-5, pytest.approx(140.8e6, rel=1e-3))}


@pytest.mark.parametrize("name", preset_names("pretrain"))
def test_every_preset_looks_at_eight_frames_at_224_pixels_from_a_short_side_of_256(name: str) -> None:
    data = settings(name).data
    assert (data.frames, data.short_side, data.crop) == (8, 256, "random")
    assert (data.min_area, data.max_area, data.min_aspect, data.max_aspect) == (0.08, 1, 3 / 4, 4 / 3)
    assert not data.upstream_cut


@pytest.mark.parametrize("name", preset_names("pretrain"))
def test_the_weights_of_a_preset_are_where_a_fetch_puts_them(name: str) -> None:
    sets = read_manifest(Path(__file__).parents[4] / "weights" / "manifest.toml")
    fetched = {f"weights/{each.name}/{item.to}" for each in sets.values() for item in each.items}
    model = settings(name).model
    assert {path for path in (model.clip, model.text, model.tokenizer, model.init) if path} <= fetched
    assert not model.captioner or sets[model.captioner].model


def test_an_unknown_preset_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UnknownNameError, match="preset is 'best'; allowed: captioned, paper, published"):
        preset("pretrain", "best")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"mask": {"rate": 1.0}}, r"mask\.rate is 1\.0; allowed: a number, 0 or more, below 1"),
        (
            {"optimiser": {"batch": 6, "accumulate": 4}},
            r"optimiser\.accumulate is 4; allowed: a divisor of 6",
        ),
        ({"model": {"drop_path": 1.0}}, r"model\.drop_path is 1\.0; allowed: a number, 0 or more, below 1"),
        ({"data": {"frames": 65}}, r"data\.frames is 65; allowed: up to model.max_frames, 64"),
        ({"data": {"frames": 0}}, r"data\.frames is 0; allowed: a whole number, 1 to 128"),
        ({"model": {"layers": 0}}, r"model\.layers is 0; allowed: a whole number, 1 or more"),
        ({"model": {"kind": "joint_st"}}, r"loss\.mbta is 1\.0; allowed: 0, since model.kind 'joint_st' has"),
        (
            {"run": {"precision": "float8"}},
            r"run\.precision is 'float8'; allowed: float32, bfloat16, float16",
        ),
    ],
)
def test_a_run_that_cannot_be_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidValueError, match=message):
        settings_from(PretrainSettings, values)
