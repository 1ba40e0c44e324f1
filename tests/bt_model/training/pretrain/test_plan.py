"""What a run is told to be before it begins."""

import pytest
import torch

from bt_model.assembly.towers import TowerConfigs
from bt_model.training.objectives.contrastive import LossWeights
from bt_model.training.plan import PUBLISHED_TOWERS, PretrainPlan
from bt_model.training.presets import preset
from bt_model.training.pretrain.cost import (
    flops_per_clip,
    kept_bytes_per_clip,
    meta_batch,
    meta_pretrain_step,
)
from bt_model.training.pretrain.settings import PretrainSettings
from bt_model.training.settings import plain, settings_from
from bt_model.training.trainer.cost import count_flops
from tests import tiny
from tests.bt_model.training.ranks import fresh_step, whole_batch

PAPER = settings_from(PretrainSettings, preset("pretrain", "paper"))
L14 = PUBLISHED_TOWERS["clip"]


def test_a_clip_of_the_papers_run_costs_what_its_products_by_hand_cost() -> None:
    # frames 81.0 GMAC each, text 2.7, branch 44.5 forwards and three times that with its backward pass
    by_hand = 2e9 * (8 * 81.0 + 2.7 + 3 * 44.5)
    assert flops_per_clip(PAPER, L14) == pytest.approx(by_hand, rel=0.01)


def test_counting_without_weights_gives_what_a_real_step_does() -> None:
    sizes = tiny.plan(300, 280)
    towers = TowerConfigs(tiny.VISION, sizes.text)
    small = {"model": {"layers": tiny.K, "max_frames": 8}, "data": {"frames": 4, "tokens": 6}}
    settings = settings_from(PretrainSettings, small, {"mask": {"rate": 0.7}})
    step, batch = fresh_step(weights=LossWeights()), whole_batch()
    counted = count_flops(lambda: torch.stack(list(step(batch).values())).sum().backward())
    # the contrast of a batch with itself grows with its square, and is all that does
    contrast = 2 * 2 * 3 * tiny.VISION.projection_dim
    assert counted == pytest.approx(8 * flops_per_clip(settings, towers) + contrast * (64 - 8), rel=0.01)


@pytest.mark.parametrize(("precision", "share"), [("float32", 1), ("bfloat16", 0.5)])
def test_a_clip_more_takes_what_it_keeps_in_its_number_format(precision: str, share: float) -> None:
    def memory(batch: int) -> float:
        values = {"optimiser": {"batch": batch, "accumulate": 1}, "run": {"precision": precision}}
        plan = PretrainPlan(settings_from(PretrainSettings, plain(PAPER), values), L14, 1000).describe()
        return next(value for name, value in plan.items() if name.startswith("memory per device"))

    kept = kept_bytes_per_clip(PAPER, L14)
    assert memory(12) - memory(10) == pytest.approx(2 * share * kept / 1e9)


def test_masking_saves_memory() -> None:
    masked, whole = (
        kept_bytes_per_clip(settings_from(PretrainSettings, plain(PAPER), {"mask": {"rate": rate}}), L14)
        for rate in (0.7, 0.0)
    )
    assert masked < 0.4 * whole


def test_shapes_without_contents_go_through_the_step_in_every_layout() -> None:
    for name in ("paper", "captioned", "published", "published-eva"):
        settings = settings_from(PretrainSettings, preset("pretrain", name))
        towers = PUBLISHED_TOWERS["eva" if name == "published-eva" else "clip"]
        losses = meta_pretrain_step(settings, towers)(meta_batch(settings, towers, batch=2))
        assert all(loss.shape == () for loss in losses.values())


def test_a_plan_tells_steps_groups_and_hours() -> None:
    told = PretrainPlan(PAPER, L14, num_clips=2_500_000, num_devices=8, rate=28.9).describe()
    assert told["steps"] == 3906
    assert told["clips"] == {"all": 2_500_000, "per step": 640, "per device": 80}
    assert told["learning parameters"] == {"base": {"parameters": 72_242_432, "rate": 2e-6}}
    assert told["hours"] == {"at 28.9 clips/s per device": pytest.approx(3.0, abs=0.01)}
    guessed = PretrainPlan(PAPER, L14, num_clips=2_500_000, num_devices=8).describe()["hours"]
    assert [name.split(" at")[0] for name in guessed] == ["on 8 x V100", "on 8 x A100", "on 8 x H100"]
