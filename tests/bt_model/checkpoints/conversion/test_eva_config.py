"""A published EVA file becomes a tower's folder: sizes from shapes, as many blocks as are asked for."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from bt_model.assembly.towers import load_tower
from bt_model.checkpoints.conversion.convert import convert
from bt_model.checkpoints.conversion.eva_config import eva_config
from bt_model.checkpoints.weights import SINGLE, open_checkpoint
from bt_model.errors import CheckpointError
from tests import published, tiny
from tests.bt_model.checkpoints.conversion.torch_files import torch_file


@pytest.fixture
def flat(tmp_path: Path) -> dict[str, torch.Tensor]:
    """The tensors of an `eva_vit_g.pth`."""
    published.write_hf_instructblip(tmp_path / "hf")
    published.write_eva(tmp_path / "eva", load_file(tmp_path / "hf" / SINGLE))
    return load_file(tmp_path / "eva" / SINGLE)


def test_an_eva_file_gets_a_config_from_its_shapes(tmp_path: Path, flat: dict[str, torch.Tensor]) -> None:
    path = torch_file(tmp_path / "eva_vit_g.pth", flat)
    convert(path, tmp_path / "out", blocks=published.LAYERS)
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    vision = config["vision_config"]
    assert config["source"] == "eva_vit_g.pth"
    assert (vision["num_hidden_layers"], vision["hidden_size"]) == (published.LAYERS, published.WIDTH)
    assert (vision["image_size"], vision["patch_size"]) == (published.SIDE, published.PATCH)
    vision["num_attention_heads"] = published.HEADS  # the tiny tower's are not 88 wide
    (tmp_path / "out" / "config.json").write_text(json.dumps(config))
    ours, theirs = (load_tower(open_checkpoint(tmp_path / name)) for name in ("out", "eva"))
    pixels = tiny.pixels(1, 2)[0]
    last = range(published.LAYERS - 1, published.LAYERS)
    assert torch.equal(ours(pixels, last)[0], theirs(pixels, last)[0])


@pytest.mark.parametrize(("width", "heads"), [(1408, 16), (176, 2), (80, 1)])
def test_heads_are_88_wide_as_in_every_published_tower(width: int, heads: int) -> None:
    shapes = {
        "patch_embed.proj.weight": (width, 3, 14, 14), "pos_embed": (1, 257, width),
        "blocks.0.mlp.fc1.weight": (6144, width), "blocks.1.norm1.weight": (width,), "blocks.x": (),
        "head.weight": (1024, width),
    }  # fmt: skip
    assert eva_config(Path("a.pth"), shapes, None) == {
        "model_type": "eva_clip",
        "source": "a.pth",
        "projection_dim": 1024,
        "vision_config": {
            "model_type": "eva_clip_vision_model", "hidden_size": width, "num_hidden_layers": 2,
            "num_attention_heads": heads, "intermediate_size": 6144, "image_size": 224, "patch_size": 14,
            "hidden_act": "gelu", "layer_norm_eps": 1e-6,
        },
    }  # fmt: skip


@pytest.mark.parametrize(
    ("head", "joint"), [({}, 176), ({"head.weight": (24, 176)}, 24), ({"head.weight": ()}, 176)]
)
def test_a_tower_without_a_projection_is_its_own_joint_space(
    head: dict[str, tuple[int, ...]], joint: int
) -> None:
    sizes = {
        "patch_embed.proj.weight": (176, 3, 4, 4),
        "pos_embed": (1, 10, 176),
        "blocks.0.mlp.fc1.weight": (8, 176),
    }
    config = eva_config(Path("a.pth"), {f"visual.{name}": shape for name, shape in (sizes | head).items()}, 1)
    assert config is not None
    assert config["projection_dim"] == joint
    assert (config["vision_config"]["image_size"], config["vision_config"]["num_hidden_layers"]) == (12, 1)


@pytest.mark.parametrize("blocks", [-3, 0, published.LAYERS + 2, 99])
def test_blocks_that_are_not_there_are_refused(
    tmp_path: Path, flat: dict[str, torch.Tensor], blocks: int
) -> None:
    path = torch_file(tmp_path / "eva_vit_g.pth", flat)
    with pytest.raises(CheckpointError, match=f"blocks is {blocks}; allowed: 1 to {published.LAYERS + 1}"):
        convert(path, tmp_path / "out", blocks=blocks)
    assert not (tmp_path / "out").exists()


def test_blocks_of_what_is_no_eva_tower_are_refused(tmp_path: Path) -> None:
    path = torch_file(tmp_path / "a.pth", {"w": torch.ones(2)})
    with pytest.raises(CheckpointError, match="blocks is 39; it is no EVA tower"):
        convert(path, tmp_path / "out", blocks=39)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("pos_embed", None),
        ("pos_embed", (10,)),
        ("patch_embed.proj.weight", (32,)),
        ("patch_embed.proj.weight", ()),
        ("blocks.0.mlp.fc1.weight", None),
        ("blocks.0.mlp.fc1.weight", (4,)),
    ],
)
def test_an_eva_file_without_its_sizes_is_refused(
    tmp_path: Path, flat: dict[str, torch.Tensor], name: str, shape: tuple[int, ...] | None
) -> None:
    del flat[name]
    odd = {} if shape is None else {name: torch.ones(shape)}
    path = torch_file(tmp_path / "eva_vit_g.pth", flat | odd)
    with pytest.raises(CheckpointError, match=f"not an EVA tower's sizes .{name} "):
        convert(path, tmp_path / "out")
