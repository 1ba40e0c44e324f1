"""Which parameters learn, for every temporal model; the rest is frozen and stays as it is."""

import pytest
import torch
from torch import nn

from bt_model.checkpoints.fingerprint import fingerprint
from bt_model.config import TemporalConfig
from bt_model.errors import InvalidValueError
from bt_model.prompt.segments import SpecialIds
from bt_model.training.instruct.learning import LoraLinear, additions, unfreeze
from bt_model.training.instruct.settings import LearnSettings
from bt_model.training.instruct.step import InstructStep
from tests import tiny
from tests.bt_model.training.instruct.steps import ALL, IDS, batch, fresh_step, gradients, loss_of, opened


def learning_names(step: InstructStep) -> set[str]:
    return {name for name, p in step.named_parameters() if p.requires_grad}


@pytest.mark.parametrize("config", tiny.TRAINED.values(), ids=tiny.TRAINED)
def test_what_learns_is_what_a_gradient_reaches(config: TemporalConfig) -> None:
    step = fresh_step(config)
    opened(step)
    assert set(gradients(step, batch())) == learning_names(step)


def test_layers_and_gates_that_only_retrieval_reads_stay_frozen() -> None:
    step = fresh_step()
    opened(step, LearnSettings(projector=False))
    names = {name.removeprefix("encoder.adapter.") for name in learning_names(step)}
    assert {"balance2", "cls_token", "time_embed.weight"} <= names
    assert "balance1" not in names
    assert {name.split(".")[1] for name in names if name.startswith(("spatial", "temporal"))} == {"0", "1"}


def test_gates_learn_only_where_that_is_wanted() -> None:
    step = fresh_step()
    opened(step, LearnSettings(gates=False))
    assert not [name for name in learning_names(step) if "balance" in name]


def test_each_part_learns_alone() -> None:
    nothing = LearnSettings(projector=True, temporal=False)
    parts = {
        "projector": nothing,
        "adapter": LearnSettings(projector=False),
        "tokens": LearnSettings(projector=False, temporal=False, tokens=True),
        "lora": LearnSettings(projector=False, temporal=False, lora_rank=1),
    }
    for part, learn in parts.items():
        step = fresh_step()
        learning = opened(step, learn)
        assert set(learning) == {part}
        owned = {id(p) for module in learning.values() for p in module.parameters() if p.requires_grad}
        assert owned == {id(p) for p in step.parameters() if p.requires_grad}


def frozen_state(step: InstructStep) -> dict[str, str]:
    lm = {name: t for name, t in step.lm.state_dict().items() if ".addition." not in name}
    return {"tower": fingerprint(step.encoder.tower.state_dict()), "lm": fingerprint(lm)}


def test_steps_change_every_part_but_never_tower_or_language_model() -> None:
    step = fresh_step()
    learning = opened(step)
    frozen, before = frozen_state(step), {part: fingerprint(m.state_dict()) for part, m in learning.items()}
    optimiser = torch.optim.AdamW([p for p in step.parameters() if p.requires_grad], lr=1e-2)
    for _ in range(2):
        optimiser.zero_grad()
        loss_of(step, batch()).backward()
        optimiser.step()
    assert frozen_state(step) == frozen
    assert all(fingerprint(module.state_dict()) != before[part] for part, module in learning.items())


def test_lora_starts_as_nothing_and_then_is_the_merged_matrix() -> None:
    step = fresh_step()
    learning = opened(step)
    torch.testing.assert_close(loss_of(step, batch()), loss_of(fresh_step(), batch()))
    tiny.wake(learning["lora"], seed=9)
    found, merged = loss_of(step, batch()), fresh_step()
    learnt = additions(learning["lora"].state_dict(), ALL)
    assert len(learnt) == 2 * len(ALL.lora_on)
    for name, each in learnt.items():
        linear = merged.lm.get_submodule(name)
        assert isinstance(linear, nn.Linear)
        linear.weight.data += ALL.lora_alpha / ALL.lora_rank * each.up @ each.down
    torch.testing.assert_close(found, loss_of(merged, batch()))
    assert abs((found - loss_of(fresh_step(), batch())).item()) > 1e-3


def test_lora_stands_beside_the_wanted_matrices_of_every_layer() -> None:
    step = fresh_step()
    opened(step, LearnSettings(lora_rank=3, lora_on=("gate_proj",)))
    places = {name for name, module in step.lm.named_modules() if isinstance(module, LoraLinear)}
    assert places == {f"model.layers.{n}.mlp.gate_proj" for n in range(2)}
    assert set(step.lm.state_dict()) > set(fresh_step().lm.state_dict())


def test_plain_clip_has_nothing_to_learn_but_its_projector() -> None:
    step = fresh_step(tiny.FROZEN["clip"])
    with pytest.raises(InvalidValueError, match=r"learn\.temporal is true; allowed: false") as caught:
        opened(step, LearnSettings())
    assert caught.value.param == "learn.temporal"
    opened(step, LearnSettings(temporal=False))
    assert set(gradients(step, batch())) == {"projector.weight", "projector.bias"}


def test_markers_that_a_template_does_not_have_cannot_learn() -> None:
    with pytest.raises(InvalidValueError, match=r"learn\.tokens is true; allowed: false"):
        unfreeze(fresh_step(), LearnSettings(tokens=True), SpecialIds(IDS.bos, IDS.eos))
