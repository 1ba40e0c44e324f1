"""A published EVA file becomes a tower's folder: sizes from shapes, as many blocks as are asked for."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from bt_model.assembly.towers import load_tower
from bt_model.checkpoints.conversion.convert import convert
from bt_model.checkpoints.weights import SINGLE
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
    vision["num_attention_heads"] = published.HEADS  # 88 wide in every published one
    (tmp_path / "out" / "config.json").write_text(json.dumps(config))
    ours, theirs = load_tower(tmp_path / "out"), load_tower(tmp_path / "eva")
    pixels = tiny.pixels(1, 2)[0]
    last = range(published.LAYERS - 1, published.LAYERS)
    assert torch.equal(ours(pixels, last)[0], theirs(pixels, last)[0])


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
