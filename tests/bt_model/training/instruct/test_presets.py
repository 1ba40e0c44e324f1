"""The named settings, against the table in docs/published-models.md, "Instruction tuning settings"."""

from typing import Any

import pytest

from bt_model.errors import InvalidValueError, UnknownNameError
from bt_model.training.instruct.cost import ChatModelConfigs, flops_per_dialogue, meta_instruct_step
from bt_model.training.instruct.settings import InstructSettings
from bt_model.training.plan import PUBLISHED_CHAT, TYPICAL, InstructPlan
from bt_model.training.presets import preset, preset_names
from bt_model.training.settings import settings_from
from tests import tiny

DIALOGUES = 100_000


def settings(name: str, *layers: dict[str, Any]) -> InstructSettings:
    return settings_from(InstructSettings, preset("instruct", name), *layers)


def plan(given: InstructSettings, num_devices: int = 1) -> dict[str, Any]:
    return InstructPlan(given, PUBLISHED_CHAT, TYPICAL, {"used": DIALOGUES}, num_devices).describe()


@pytest.mark.parametrize(
    ("name", "batch", "betas", "decay", "steps"),
    [("paper", 4, (0.9, 0.998), 0.1, 75_000), ("published", 8, (0.9, 0.999), 0.0, 37_500)],
)
def test_presets_have_the_tables_optimiser(
    name: str, batch: int, betas: tuple[float, float], decay: float, steps: int
) -> None:
    given = settings(name)
    schedule = given.schedule(DIALOGUES // batch)
    assert (given.optimiser.batch, given.optimiser.epochs, schedule.num_steps) == (batch, 3, steps)
    assert (schedule.learning_rate, schedule.betas, schedule.weight_decay) == (2e-5, betas, decay)
    assert schedule.factor(int(0.03 * steps) - 1) == pytest.approx(1)
    assert schedule.factor(int(0.015 * steps)) == pytest.approx(0.5, abs=1e-3)
    assert schedule.factor(steps - 1) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("name", preset_names("instruct"))
def test_presets_read_a_hundred_frames_in_half_precision_into_257_tokens(name: str) -> None:
    given = settings(name)
    assert (given.data.frames, given.data.strategy, given.data.short_side) == (100, "middle", 256)
    assert (given.data.max_length, given.model.pooling) == (2048, "patches_cls")
    assert (given.run.precision, given.run.recompute) == ("float16", True)


def test_the_published_script_trains_the_markers_and_no_gate_and_spells_otherwise_than_it_serves() -> None:
    published, paper = settings("published"), settings("paper")
    assert (published.learn.tokens, published.learn.gates, published.data.place) == (True, False, "published")
    assert (published.model.template, published.model.served_template) == ("vicuna_v1_1", "video-chatgpt_v1")
    assert (paper.learn.tokens, paper.learn.gates, paper.data.place) == (False, True, "template")


def test_three_branch_layers_and_the_projector_learn() -> None:
    layers, projector, others = 53_538_816, 1024 * 4096 + 4096, 64 * 1024 + 1024
    gates = {"published": 0, "paper": 1024}  # that between the layers
    rows = {"published": 2 * 4096, "paper": 0}
    for name in preset_names("instruct"):
        step, _ = meta_instruct_step(settings(name), PUBLISHED_CHAT)
        learning = sum(p.numel() for p in step.parameters() if p.requires_grad)
        assert learning == layers + projector + others + gates[name] + rows[name]


def test_stored_states_save_twenty_one_of_the_towers_layers() -> None:
    """A layer is 3.37 GMAC a frame (docs/published-models.md, "Pre-training settings")."""
    frames = flops_per_dialogue(settings("paper"), PUBLISHED_CHAT, TYPICAL)
    stored = flops_per_dialogue(settings("paper", {"data": {"features": "there"}}), PUBLISHED_CHAT, TYPICAL)
    assert frames - stored == pytest.approx(2 * 100 * 21 * 3.37e9, rel=5e-3)


def test_a_plan_says_steps_shares_and_memory() -> None:
    told = plan(settings("published"), num_devices=8)
    assert (told["steps"], told["dialogues"]["per device"]) == (37_500, 1)
    assert told["frozen parameters"] == pytest.approx(7.06e9, rel=1e-2)
    assert 13.5 < told["memory of weights and optimiser per device, GB"] < 17


def test_sharded_weights_are_shared_out() -> None:
    sizes = ChatModelConfigs(tiny.VISION, tiny.FROZEN["bt_adapter"], tiny.plan(300, 280).llama, "patches_cls")
    few = {"data": {"frames": 4}}
    given = settings("paper", few), settings("paper", few, {"run": {"parallel": "fsdp"}})
    plans = [InstructPlan(each, sizes, TYPICAL, {"used": 80}, 8) for each in given]
    whole, shared = (each.describe()["memory of weights and optimiser per device, GB"] for each in plans)
    assert shared == pytest.approx(whole / 8)


def test_an_unknown_preset_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UnknownNameError, match="preset is 'best'; allowed: paper, published"):
        preset("instruct", "best")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"data": {"strategy": "random"}}, r"data\.strategy is 'random'; allowed: uniform"),
        ({"data": {"place": "above"}}, r"data\.place is 'above'; allowed: template, published"),
        ({"data": {"frames": 0}}, r"data\.frames is 0; allowed: a whole number, 1 to 128"),
        ({"learn": {"lora_on": ["norm"]}}, r"learn\.lora_on\.0 is 'norm'; allowed: q_proj"),
        (
            {"learn": {"projector": False, "temporal": False}},
            r"learn\.projector is False; allowed: true, where",
        ),
        (
            {"model": {"adapter": "fresh"}, "learn": {"temporal": False}},
            r"learn\.temporal is False; allowed: true",
        ),
        ({"model": {"name": "a/b"}}, r"model\.name is 'a/b'; allowed: a name without slashes"),
        ({"temporal": {"kind": "lstm"}}, r"temporal\.kind is 'lstm'; allowed: clip, bt_adapter"),
        ({"optimiser": {"weigh": "word"}}, r"optimiser\.weigh is 'word'; allowed: dialogue, token"),
        (
            {"optimiser": {"batch": 6, "accumulate": 4}},
            r"optimiser\.accumulate is 4; allowed: a divisor of 6",
        ),
    ],
)
def test_a_run_that_cannot_be_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidValueError, match=message):
        settings_from(InstructSettings, values)
