"""Parts that do not belong together are refused by name, and load where the name is accepted."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from bt_model.assembly.load import load
from bt_model.chat import VideoChat
from bt_model.checkpoints.compatibility import CHECKS, UNTRAINED
from bt_model.checkpoints.export import published as named
from bt_model.checkpoints.layouts.clip import RETRIEVAL
from bt_model.checkpoints.layouts.eva import EVA
from bt_model.checkpoints.metadata import KEY
from bt_model.config import BTAdapterConfig
from bt_model.errors import CheckpointError
from bt_model.generation.request import Soft
from bt_model.types import Turn, VideoTokens
from bt_model.vision.bt_adapter import BTAdapter
from tests import published, tiny

Spoil = Callable[[Path], dict[str, object]]
EVA_VISION = replace(tiny.VISION, family="eva", act="gelu", eps=1e-6)
BRANCH = "bt_adapter_tuned.safetensors"


@pytest.fixture
def folder(tiny_weights: Path, tmp_path: Path) -> Path:
    """Models of both kinds, which a test may spoil."""
    target = Path(shutil.copytree(tiny_weights / "tiny", tmp_path / "tiny"))
    published.write_all(tmp_path)
    branch = tiny.wake(BTAdapter(EVA_VISION, BTAdapterConfig(3, 8, None, None)), seed=1)
    save_file(named({"adapter": branch.state_dict()}, EVA), target / "eva_branch.safetensors")
    return target


def rewritten(path: Path, change: Callable[[dict[str, torch.Tensor]], None], **facts: object) -> None:
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, metadata={KEY: json.dumps(facts)} if facts else None)


def said(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def keep(_tensors: dict[str, torch.Tensor]) -> None:
    """Change nothing."""


def other_positions(folder: Path) -> dict[str, object]:
    rewritten(folder / BRANCH, keep, positions=577, blocks=tiny.VISION.num_layers)
    return {}


def other_blocks(folder: Path) -> dict[str, object]:
    rewritten(folder / BRANCH, keep, positions=tiny.P + 1, blocks=24)
    return {}


def other_family(_folder: Path) -> dict[str, object]:
    return {"adapter": "eva_branch.safetensors"}


def other_activation(folder: Path) -> dict[str, object]:
    config = json.loads((folder / "clip" / "config.json").read_text())
    said(folder / "clip" / "config.json", vision_config=config["vision_config"] | {"hidden_act": "gelu"})
    return {}


def other_tower(folder: Path) -> dict[str, object]:
    vision = tiny.wake(type(tiny.tower())(tiny.VISION), seed=9)
    inside = named({"vision": vision.state_dict()}, RETRIEVAL)
    rewritten(folder / BRANCH, lambda tensors: tensors.update(inside))
    return {}


def tuned_tower(folder: Path) -> dict[str, object]:
    def bring(tensors: dict[str, torch.Tensor]) -> None:
        prefix = "model.vision_tower.vision_tower."
        own = load_file(folder / "clip" / "model.safetensors")
        for name, tensor in own.items():
            if name.startswith("vision_model."):
                tensors[prefix + name] = tensor + 1

    rewritten(folder / "llava_video" / "model.safetensors", bring)
    return {}


def other_layer(folder: Path) -> dict[str, object]:
    said(folder / "llava_video" / "config.json", mm_vision_select_layer=[-2, -5])
    return {}


def wrong_input(folder: Path) -> dict[str, object]:
    name = "model.mm_projector.weight"
    rewritten(folder / "llava_video" / "model.safetensors", lambda t: t.update({name: torch.ones(48, 40)}))
    return {}


def wrong_output(folder: Path) -> dict[str, object]:
    def widen(tensors: dict[str, torch.Tensor]) -> None:
        tensors["model.mm_projector.weight"] = torch.ones(60, tiny.D)
        tensors["model.mm_projector.bias"] = torch.ones(60)

    rewritten(folder / "llava_video" / "model.safetensors", widen)
    return {}


def eva_variant(folder: Path) -> dict[str, object]:
    said(folder / "blip2" / "eva" / "config.json", source="EVA01_g_plus_psz14.pt")
    return {"adapter": "eva_branch.safetensors"}


def wrong_qformer(folder: Path) -> dict[str, object]:
    names = ("ln_vision.weight", "ln_vision.bias")
    rewritten(
        folder / "blip2" / "qformer.safetensors", lambda t: t.update({n: torch.ones(40) for n in names})
    )
    return {}


CASES: dict[str, tuple[str, Spoil, str]] = {
    "family": ("embedded", other_family, "expected a branch for clip, found a branch for eva"),
    "positions": ("embedded", other_positions, "expected 577, found 10"),
    "blocks": ("embedded", other_blocks, "expected 24, found 5"),
    "activation": ("embedded", other_activation, "expected quick_gelu, found gelu"),
    "eva_variant": ("minigpt4", eva_variant, "expected .*, found EVA01_g_plus_psz14.pt"),
    "tower_weights": ("embedded", other_tower, "expected the tower inside .*, found another class_embedding"),
    "tuned_tower": ("embedded", tuned_tower, "expected the tower of clip, found its own class_embedding"),
    "select_layer": ("embedded", other_layer, r"expected mm_vision_select_layer -2, found \[-2, -5\]"),
    "projector_in": ("embedded", wrong_input, "expected 32, found 40"),
    "projector_out": ("embedded", wrong_output, "expected 48, the LLM's width, found 60"),
    "qformer_in": ("minigpt4", wrong_qformer, "expected 32, the tower's width, found 40"),
}


def model_with(folder: Path, name: str, **changes: Any) -> Path:
    path = folder / f"{name}.model.json"
    said(path, **changes)
    return path


def test_there_is_a_case_for_every_check() -> None:
    assert set(CASES) == set(CHECKS)


@pytest.mark.parametrize("check", CASES)
def test_a_misfit_is_refused_with_expected_and_found(folder: Path, check: str) -> None:
    name, spoil, message = CASES[check]
    load(str(model_with(folder, name)), folder, device="cpu")  # fits before
    path = model_with(folder, name, **spoil(folder))
    with pytest.raises(CheckpointError, match=f"{check}: {message}") as caught:
        load(str(path), folder, device="cpu")
    assert caught.value.code == "misfit"
    assert f'"accept": ["{check}"]' in caught.value.message


@pytest.mark.parametrize("check", CHECKS)
def test_an_accepted_misfit_loads_and_is_recorded(folder: Path, check: str) -> None:
    name, spoil, _ = CASES[check]
    path = model_with(folder, name, **spoil(folder), accept=[check])
    chat = load(str(path), folder, device="cpu")
    assert chat.card.accepted == (check,)
    assert any("is untrained" in note for note in chat.card.notes) == (check in UNTRAINED)
    first, again = (soft_tokens(each) for each in (chat, load(str(path), folder, device="cpu")))
    assert first.isfinite().all()
    assert torch.equal(first, again)


def soft_tokens(chat: VideoChat) -> torch.Tensor:
    video = VideoTokens(b"", chat.encode(tiny.clips(1, 4))[0])
    segments = chat.backend.segments([Turn("user", "what is it?")], [video])
    (soft,) = (segment for segment in segments if isinstance(segment, Soft))
    return soft.embeds


def test_only_checks_can_be_accepted() -> None:
    assert set(UNTRAINED) < set(CHECKS)


def test_a_check_that_does_not_exist_cannot_be_accepted(folder: Path) -> None:
    with pytest.raises(CheckpointError, match="accept names anything; allowed: family, positions"):
        load(str(model_with(folder, "embedded", accept=["anything"])), folder, device="cpu")


def test_nothing_is_accepted_that_did_not_fail(folder: Path) -> None:
    chat = load(str(model_with(folder, "embedded", accept=["positions"])), folder, device="cpu")
    assert chat.card.accepted == ()


@pytest.mark.parametrize(
    ("blocks", "num_layers"), [(published.LAYERS, 3), (published.LAYERS + 1, 2), (None, 2)]
)
def test_a_branch_loses_a_layer_only_beside_a_tower_that_lost_one(
    folder: Path, blocks: int | None, num_layers: int
) -> None:
    path = folder / "eva_branch.safetensors"
    if blocks is not None:
        rewritten(path, keep, positions=tiny.P + 1, blocks=blocks)
    chat = load(str(model_with(folder, "minigpt4", adapter=path.name)), folder, device="cpu")
    assert chat.encoder.config.branch.num_layers == num_layers
    told = "the branch's last layer of 3 is left out" in "".join(chat.card.notes)
    assert told == (num_layers == 2)
    assert chat.encode(tiny.clips(1, 4)).isfinite().all()


def test_a_copy_of_the_same_tower_fits_in_half_precision(folder: Path) -> None:
    inside = named({"vision": load_tower_state(folder)}, RETRIEVAL)
    rewritten(folder / BRANCH, lambda tensors: tensors.update({n: t.half() for n, t in inside.items()}))
    load(str(folder / "embedded.model.json"), folder, device="cpu")


def load_tower_state(folder: Path) -> dict[str, torch.Tensor]:
    return load("embedded", folder.parent, device="cpu").encoder.tower.state_dict()
