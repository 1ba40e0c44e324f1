"""What training may change of a temporal model: its own parts, and no tensor of the tower that it shares."""

import pytest
import torch

from bt_model.checkpoints.fingerprint import fingerprint
from bt_model.vision.encoder import TemporalEncoder, VideoEncoder
from bt_model.vision.pool import patches_cls
from tests import tiny
from tests.tiny import FROZEN, OPEN, TRAINED

B, T = 2, 4
WITH_ATTENTION = ["bt_adapter", "stan", "separate_st", "separate_st_2"]


def gradients(model: TemporalEncoder, kind: str) -> dict[str, float]:
    """The largest gradient of each trained parameter, after one loss of chat or retrieval features."""
    pixels = tiny.pixels(B, T)
    seen = tiny.retrieve(model, pixels) if kind == "retrieval" else patches_cls(model.chat(pixels))
    (seen * tiny.pixels(1, 1)[0, 0, 0].flatten()[: seen.shape[-1]]).sum().backward()
    named = (item for part in model.trainable().values() for item in part.named_parameters())
    return {name: 0.0 if p.grad is None else float(p.grad.abs().max()) for name, p in named}


def step(model: TemporalEncoder) -> None:
    """One optimisation step on what both sides read."""
    optimiser = torch.optim.AdamW(model.trainable_parameters(), lr=1e-2)
    pixels = tiny.pixels(B, T)
    loss = tiny.retrieve(model, pixels).square().mean() + patches_cls(model.chat(pixels)).square().mean()
    loss.backward()
    optimiser.step()


@pytest.mark.parametrize("name", WITH_ATTENTION)
@pytest.mark.parametrize("side", ["retrieval", "chat"])
def test_at_first_time_learns_through_its_zero_projection_alone(name: str, side: str) -> None:
    grads = gradients(tiny.fresh(FROZEN[name]), side)
    fc = [g for n, g in grads.items() if "temporal_fc.weight" in n]
    attention = [g for n, g in grads.items() if n.startswith("temporal.") and "temporal_fc" not in n]
    assert min(fc[:-1] if side == "chat" else fc) > 1e-6  # the chat path leaves the last layer out
    assert max(attention) == 0.0


def test_an_adapter_learns_through_its_zero_convolution_first() -> None:
    grads = gradients(tiny.fresh(FROZEN["st_adapter"]), "retrieval")
    assert min(g for n, g in grads.items() if "conv" in n) > 1e-6
    assert max(g for n, g in grads.items() if "down.weight" in n or "up.weight" in n) == 0.0


@pytest.mark.parametrize("name", TRAINED)
def test_a_step_changes_the_model_and_no_tensor_of_the_shared_tower(name: str) -> None:
    tower, pixels = tiny.tower().requires_grad_(requires_grad=True), tiny.pixels(B, T)
    clip = VideoEncoder(tower, None)
    expected = tiny.retrieve(clip, pixels).detach(), patches_cls(clip.chat(pixels)).detach()
    before = fingerprint(tower.state_dict())
    model = tiny.fresh(TRAINED[name], tower)
    parts = {part: fingerprint(module.state_dict()) for part, module in model.trainable().items()}
    step(model)
    assert fingerprint(tower.state_dict()) == before
    assert all(weight.grad is None for weight in tower.parameters())
    assert all(fingerprint(m.state_dict()) != parts[part] for part, m in model.trainable().items())
    removed = VideoEncoder(tower, None)
    assert torch.equal(tiny.retrieve(removed, pixels), expected[0])
    assert torch.equal(patches_cls(removed.chat(pixels)), expected[1])


@pytest.mark.parametrize("name", OPEN)
def test_an_open_model_trains_all_of_its_tower_but_the_embeddings(name: str) -> None:
    model = tiny.fresh(OPEN[name])
    assert model.own is not None
    before = {key: weight.clone() for key, weight in model.own.named_parameters()}
    step(model)
    same = {
        key.split(".")[0] for key, weight in model.own.named_parameters() if torch.equal(weight, before[key])
    }
    assert same == {"class_embedding", "patch_embedding", "position_embedding", "pre_layrnorm"}


@pytest.mark.parametrize("name", TRAINED)
def test_what_is_trained_is_what_wants_a_gradient_and_is_counted(name: str) -> None:
    model = tiny.fresh(TRAINED[name])
    learning = [weight for weight in model.parameters() if weight.requires_grad]
    assert {id(weight) for weight in model.trainable_parameters()} == {id(weight) for weight in learning}
    assert model.num_trainable == sum(weight.numel() for weight in learning)


def test_clip_has_nothing_to_train() -> None:
    assert tiny.fresh(FROZEN["clip"]).trainable() == {}
