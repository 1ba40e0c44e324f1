"""Which tower a branch or a Q-Former belongs beside: its sizes, the state that is read, and its weights."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from bt_model.assembly.load import load, open_parts
from bt_model.assembly.model_file import read_model_file
from bt_model.checkpoints.compatibility import Misfit, ModelParts, find_misfits
from bt_model.checkpoints.export import published as named
from bt_model.checkpoints.layouts.clip import RETRIEVAL
from bt_model.checkpoints.weights import Checkpoint, open_checkpoint
from bt_model.config import CLIP_L14, EVA_G14, ClipVisionConfig
from bt_model.video.transform import normalise
from tests import published, tiny

BRANCH = "bt_adapter_tuned.safetensors"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    published.write_all(tmp_path)
    tiny.write_model_folder(tmp_path / "clips")
    return tmp_path / "tiny"


def found(parts: ModelParts) -> list[tuple[str, str, str]]:
    return [(misfit.check, misfit.expected, misfit.found) for misfit in find_misfits(parts)]


def of_sizes(vision: ClipVisionConfig, select_layer: int = -2, **more: Checkpoint) -> ModelParts:
    """A tower of published sizes, of which only the sizes are there."""
    tower = replace(open_checkpoint({"vision.a": torch.zeros(1)}), config={})
    return ModelParts(tower, vision, select_layer, **more)


def branch(path: Path, prefix: str, width: int) -> Path:
    """As much of a published branch as says what it is."""
    names = {
        "clip": ("btadapter_cls_token", "btadapter_time_embed.weight", "btadapter_S_layers.0.mlp.fc1.bias"),
        "eva": ("btadapter_cls", "btadapter_position.weight", "btadapter_S.0.mlp.fc1.bias"),
    }[prefix]
    shapes = ((1, 1, width), (64, width), (4 * width,))
    save_file({name: torch.zeros(shape) for name, shape in zip(names, shapes, strict=True)}, path)
    return path


@pytest.mark.parametrize(
    ("family", "changes", "expected"),
    [
        ("clip", {}, []),
        ("clip", {"image_size": 336}, [("positions", "257", "577")]),
        ("clip", {"num_layers": 23}, [("blocks", "24", "23")]),
        ("clip", {"act": "gelu"}, [("activation", "quick_gelu", "gelu")]),
        ("eva", {}, []),
        ("eva", {"num_layers": 39}, []),
        ("eva", {"num_layers": 38}, [("blocks", "39 or 40", "38")]),
        ("eva", {"num_layers": 41}, [("blocks", "39 or 40", "41")]),
        ("eva", {"image_size": 448}, [("positions", "257", "1025")]),
        ("eva", {"act": "quick_gelu"}, [("activation", "gelu", "quick_gelu")]),
    ],
)
def test_a_published_branch_knows_its_tower_by_its_width(
    tmp_path: Path, family: str, changes: dict[str, object], expected: list[tuple[str, str, str]]
) -> None:
    vision = replace({"clip": CLIP_L14, "eva": EVA_G14}[family], **changes)
    adapter = open_checkpoint(branch(tmp_path / "branch.safetensors", family, vision.width))
    assert found(of_sizes(vision, adapter=adapter)) == expected


@pytest.mark.parametrize(
    ("blocks", "select_layer", "reads"),
    [(39, -1, 39), (39, -2, 38), (40, -2, 39), (40, -1, 40), (38, -1, 38)],
)
def test_a_qformer_reads_hidden_state_39_of_eva_clip_g(blocks: int, select_layer: int, reads: int) -> None:
    qformer = open_checkpoint({"qformer.query_tokens": torch.zeros(1)})
    parts = of_sizes(replace(EVA_G14, num_layers=blocks), select_layer, qformer=qformer)
    odd = ("select_layer", "hidden state 39", f"{reads}, by select_layer {select_layer} of {blocks} blocks")
    assert found(parts) == ([] if reads == 39 else [odd])


@pytest.mark.parametrize("name", ["llava-hf", "minigpt4", "instructblip"])
def test_the_layer_that_is_read_is_the_model_files(folder: Path, name: str) -> None:
    """`-1` is what comes out of the tower's last block, `-2` what goes into it."""
    path = folder / f"{name}.model.json"
    clips = tiny.clips(1, 3)
    told = {}
    for layer in (-1, -2):
        path.write_text(
            json.dumps(json.loads(path.read_text()) | {"select_layer": layer, "accept": ["select_layer"]})
        )
        chat = load(str(path), folder, device="cpu")
        states = chat.encoder.tower(normalise(clips[0]), {published.LAYERS + 1 + layer})[0].mean(dim=0)
        told[layer] = chat.encode(clips)[0]
        expected = torch.cat([states[1:], states[:1]])[: len(told[layer])]
        torch.testing.assert_close(told[layer], expected, rtol=1e-4, atol=1e-4)
    assert (told[-1] - told[-2]).abs().max() > 1e-2


Change = Callable[[Tensor], Tensor]


def with_inside(folder: Path, name: str, change: Change) -> list[Misfit]:
    """A branch file with a copy of its tower in which one tensor is another."""
    tiny_folder = folder.parent / "clips" / "tiny"
    path = tiny_folder / BRANCH
    state = load("embedded", folder.parent / "clips", device="cpu").encoder.tower.state_dict()
    inside = {n: (change(t) if n == name else t).clone() for n, t in state.items()}
    save_file(load_file(path) | named({"vision": inside}, RETRIEVAL), path)
    model = tiny_folder / "embedded.model.json"
    return list(find_misfits(open_parts(tiny_folder, read_model_file(model))))


def test_a_branch_that_says_nothing_belongs_beside_a_tower_of_the_size_of_the_one_in_its_file(
    folder: Path,
) -> None:
    def longer(tensor: Tensor) -> Tensor:
        return torch.cat([tensor, tensor[:7]])

    misfits = with_inside(folder, "position_embedding.weight", longer)
    assert [(misfit.check, misfit.expected, misfit.found) for misfit in misfits] == [
        ("positions", str(tiny.P + 8), str(tiny.P + 1))
    ]


LAST_USED = tiny.VISION.num_layers - 2


@pytest.mark.parametrize(
    ("name", "is_seen"),
    [
        ("class_embedding", True),
        ("position_embedding.weight", True),
        ("layers.0.mlp.fc1.weight", True),
        ("layers.0.layer_norm1.bias", True),
        (f"layers.{LAST_USED}.self_attn.q_proj.weight", True),
        (f"layers.{LAST_USED}.mlp.fc2.bias", True),
        (f"layers.{LAST_USED + 1}.mlp.fc2.bias", False),  # behind what is read
    ],
)
def test_embeddings_first_and_last_used_block_are_compared(folder: Path, name: str, is_seen: bool) -> None:
    misfits = with_inside(folder, name, lambda tensor: tensor + 0.1)
    assert [(misfit.check, misfit.found) for misfit in misfits] == (
        [("tower_weights", f"another {name}")] if is_seen else []
    )


@pytest.mark.parametrize(
    ("change", "is_same"),
    [
        (Tensor.half, True),
        (Tensor.bfloat16, True),
        (lambda tensor: tensor.half().bfloat16(), True),
        (lambda tensor: (tensor * (1 + 2**-6)).bfloat16(), False),
        (lambda tensor: tensor * (1 + 2**-8), False),
        (lambda tensor: torch.cat([tensor[:-1], 1.05 * tensor[-1:]]).bfloat16(), False),
    ],
)
def test_number_formats_are_forgiven_and_nothing_else(folder: Path, change: Change, is_same: bool) -> None:
    assert (not with_inside(folder, "layers.0.mlp.fc1.weight", change)) == is_same


def with_tower(path: Path, prefix: str, source: Path, change: float) -> None:
    """Add a tower to a chat model's file, as InstructBLIP's and the first BLIP-2's have one."""
    tower = {
        n: t + change
        for n, t in load_file(source).items()
        if n.startswith(("blocks.", "cls", "pos", "patch"))
    }
    save_file(load_file(path) | {prefix + n: t for n, t in tower.items()}, path)


@pytest.mark.parametrize("change", [0.0, 0.5])
@pytest.mark.parametrize("name", ["qformer.safetensors", "projection.safetensors"])
def test_a_tower_inside_a_qformers_file_is_compared(folder: Path, name: str, change: float) -> None:
    source = folder / "blip2" / "eva" / "model.safetensors"
    with_tower(folder / "blip2" / name, "visual_encoder.", source, change)
    parts = open_parts(folder, read_model_file(folder / "minigpt4.model.json"))
    told = [(misfit.check, misfit.where.name, misfit.found[:8]) for misfit in find_misfits(parts)]
    assert told == ([("tuned_tower", name, "its own ")] if change else [])


@pytest.mark.parametrize("change", [0.0, 0.5])
def test_a_tower_inside_instructblips_folder_is_compared(folder: Path, change: float) -> None:
    path = folder / "instructblip-hf" / "model.safetensors"
    name = "vision_model.embeddings.class_embedding"
    tensors = load_file(path)
    save_file(tensors | {name: tensors[name] + change}, path)
    parts = open_parts(folder, read_model_file(folder / "instructblip.model.json"))
    expected = [("tuned_tower", "the tower of eva", "its own class_embedding")]
    assert found(parts) == (expected if change else [])
