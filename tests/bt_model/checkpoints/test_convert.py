"""Pickles in, safetensors out: nothing is run, nothing is lost, nothing is half there."""

import collections
import json
import os
import pickle
import sys
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from bt_model.checkpoints.convert import convert
from bt_model.checkpoints.detect import detect
from bt_model.checkpoints.load import load_part, load_vision, read_adapter
from bt_model.checkpoints.pickles import TorchFile
from bt_model.checkpoints.weights import INDEX, SINGLE, open_weights
from bt_model.errors import CheckpointError
from bt_model.model_folder import load_tower
from bt_model.vision.clip import ClipVisionTower
from tests import published, tiny


class Trap:
    """Makes a folder when it is unpickled by anything that runs what it reads."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.path),)


def torch_file(path: Path, value: object) -> Path:
    torch.save(value, path)
    return path


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.bool])
def test_tensors_come_out_as_they_went_in(tmp_path: Path, dtype: torch.dtype) -> None:
    whole = torch.randn(6, 5).mul(3).to(dtype)
    tensors = {
        "plain": whole, "turned": whole.t(), "part": whole[2:4, 1:3], "none": whole[:0], "one": whole[0, 0],
        "shared": whole,
    }  # fmt: skip
    read = TorchFile(torch_file(tmp_path / "a.bin", tensors))
    assert {name: read[name].tolist() for name in read} == {n: t.tolist() for n, t in tensors.items()}
    assert {read[name].dtype for name in read} == {dtype}


def test_parameters_and_modules_own_dicts_are_read(tmp_path: Path) -> None:
    linear = nn.Linear(3, 2)
    read = TorchFile(
        torch_file(tmp_path / "a.pth", {"p": nn.Parameter(torch.ones(2)), **linear.state_dict()})
    )
    assert torch.equal(read["weight"], linear.weight)
    assert read["p"].tolist() == [1, 1]
    ordered = TorchFile(torch_file(tmp_path / "b.pth", linear.state_dict()))
    assert list(ordered) == ["weight", "bias"]


def test_nothing_in_the_file_is_run(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    path = torch_file(tmp_path / "evil.pth", {"state_dict": {"w": torch.ones(2)}, "meta": Trap(mark)})
    read = TorchFile(path)
    assert read["w"].tolist() == [1, 1]
    assert not mark.exists()
    assert any("mkdir" in stranger for stranger in read.strangers)
    torch.load(path, weights_only=False)
    assert mark.exists()  # the trap is a real one


@pytest.mark.parametrize(
    "source",
    [
        'cbuiltins\neval\n(S\'open("MARK", "w")\'\ntR.',
        "c__builtin__\ngetattr\n(c__builtin__\n__import__\n(S'os'\ntRS'system'\ntR(S'touch MARK'\ntR.",
        "cos\nsystem\n(S'touch MARK'\ntR.",
    ],
)
def test_a_pickle_written_by_hand_does_nothing_either(tmp_path: Path, source: str) -> None:
    mark = tmp_path / "mark"
    path = tmp_path / "evil.bin"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", source.replace("MARK", str(mark)))
    with pytest.raises(CheckpointError, match=r"evil\.bin"):
        TorchFile(path)
    assert not mark.exists()


def test_a_training_checkpoint_of_a_library_that_is_not_there_is_read(tmp_path: Path) -> None:
    module = ModuleType("mmengine_for_a_test")
    hub = type("HistoryBuffer", (), {"__module__": module.__name__, "__qualname__": "HistoryBuffer"})
    module.HistoryBuffer = hub  # pyright: ignore[reportAttributeAccessIssue]
    sys.modules[module.__name__] = module
    buffer = hub()
    vars(buffer)["values"] = [1, 2]
    state = {f"backbone.{name}": t for name, t in tiny.tower().state_dict().items()}
    training = {
        "meta": {"epoch": 1},
        "state_dict": collections.OrderedDict(state),
        "message_hub": {"loss": buffer},
    }
    path = torch_file(tmp_path / "pretrain.pth", training)
    del sys.modules[module.__name__]
    with pytest.raises((ModuleNotFoundError, pickle.UnpicklingError)):
        torch.load(path, weights_only=False)
    done = convert(path, tmp_path / "out.safetensors")
    assert done.dropped == dict.fromkeys(("meta", "message_hub"), "beside the weights: of the training run")
    assert done.strangers == {"mmengine_for_a_test.HistoryBuffer"}
    load_vision(ClipVisionTower(tiny.VISION), tmp_path / "out.safetensors")


def test_the_published_projector_that_is_cut_off_is_explained(tmp_path: Path) -> None:
    path = torch_file(tmp_path / "sft_mm_projector.bin", {"weight": torch.zeros(4096, 1024)})
    data = path.read_bytes()
    path.write_bytes(data[: 1 << 24])
    with pytest.raises(CheckpointError, match=r"cut off at exactly 16777216 bytes.*zero-shot setting"):
        convert(path, tmp_path / "out.safetensors")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["sft_mm_projector.bin"]


@pytest.mark.parametrize("data", [b"", b"no zip", b"PK\x03\x04 half"])
def test_what_is_no_torch_file_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match="not a whole torch file"):
        TorchFile(path)


def test_compressed_data_is_refused(tmp_path: Path) -> None:
    plain = torch_file(tmp_path / "a.bin", {"w": torch.zeros(1000)})
    with zipfile.ZipFile(plain) as old, zipfile.ZipFile(tmp_path / "b.bin", "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    with pytest.raises(CheckpointError, match=r"w cannot be read .its data is compressed"):
        _ = TorchFile(tmp_path / "b.bin")["w"]


def test_a_small_file_cannot_become_a_huge_tensor(tmp_path: Path) -> None:
    row = torch.zeros(1000)
    path = torch_file(tmp_path / "a.bin", {"few": row.expand(100, -1), "many": row.expand(10**9, -1)})
    read = TorchFile(path)
    assert read["few"].shape == (100, 1000)
    with pytest.raises(CheckpointError, match="many cannot be read"):
        _ = read["many"]


def sharded(folder: Path, tensors: dict[str, Tensor], count: int) -> Path:
    """pytorch_model-*.bin with an index, a config and a tokenizer."""
    folder.mkdir()
    names = list(tensors)
    weight_map: dict[str, str] = {}
    for number in range(count):
        file = f"pytorch_model-{number + 1:05d}-of-{count:05d}.bin"
        mine = names[number::count]
        torch.save({name: tensors[name] for name in mine}, folder / file)
        weight_map |= dict.fromkeys(mine, file)
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": weight_map}))
    (folder / "config.json").write_text('{"hidden_size": 8}')
    (folder / "tokenizer.model").write_bytes(b"pieces")
    return folder


def random(**shapes: tuple[int, ...]) -> dict[str, Tensor]:
    return {name.replace("__", "."): torch.randn(shape) for name, shape in shapes.items()}


def test_shards_become_shards_with_an_index_and_what_lies_beside(tmp_path: Path) -> None:
    tensors = random(a=(100, 10), b=(100, 10), c=(10,), d=(100, 10))
    done = convert(sharded(tmp_path / "in", tensors, 2), tmp_path / "out", shard_bytes=5000)
    assert sorted(done.kept) == sorted(tensors)
    assert done.num_bytes == sum(tensor.nbytes for tensor in tensors.values())
    read = open_weights(tmp_path / "out")
    assert all(torch.equal(read[name], tensor) for name, tensor in tensors.items())
    assert (tmp_path / "out" / INDEX).is_file()
    assert len(list((tmp_path / "out").glob("*.safetensors"))) == 3
    assert (tmp_path / "out" / "tokenizer.model").read_bytes() == b"pieces"
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_a_number_format_is_for_numbers_with_a_point(tmp_path: Path) -> None:
    path = torch_file(tmp_path / "a.bin", {"w": torch.ones(2), "n": torch.ones(2, dtype=torch.int64)})
    convert(path, tmp_path / "out", dtype=torch.float16)
    read = load_file(tmp_path / "out" / SINGLE)
    assert (read["w"].dtype, read["n"].dtype) == (torch.float16, torch.int64)


def test_what_exists_is_not_overwritten(tmp_path: Path) -> None:
    path = torch_file(tmp_path / "a.bin", {"w": torch.ones(2)})
    (tmp_path / "out").mkdir()
    with pytest.raises(CheckpointError, match="exists already"):
        convert(path, tmp_path / "out")


def test_a_source_that_breaks_in_the_middle_leaves_nothing(tmp_path: Path) -> None:
    folder = sharded(tmp_path / "in", random(a=(100, 10), b=(100, 10)), 2)
    second = folder / "pytorch_model-00002-of-00002.bin"
    second.write_bytes(second.read_bytes()[:300])
    with pytest.raises(CheckpointError, match="not a whole torch file"):
        convert(folder, tmp_path / "out", shard_bytes=1000)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in"]


@pytest.mark.parametrize("is_pickled", [True, False])
def test_a_delta_is_added_to_its_base(tmp_path: Path, is_pickled: bool) -> None:
    base = random(model__embed_tokens__weight=(10, 4), lm_head__weight=(10, 4), model__norm__weight=(4,))
    delta = random(
        model__embed_tokens__weight=(13, 4), lm_head__weight=(13, 4), model__norm__weight=(4,),
        model__mm_projector__weight=(4, 6),
    )  # fmt: skip
    if is_pickled:
        sharded(tmp_path / "base", base, 2)
    else:
        (tmp_path / "base").mkdir()
        save_file(base, tmp_path / "base" / SINGLE)
    done = convert(sharded(tmp_path / "delta", delta, 2), tmp_path / "out", base=tmp_path / "base")
    merged = open_weights(tmp_path / "out")
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        assert torch.equal(merged[name][:10], delta[name][:10] + base[name])
        assert torch.equal(merged[name][10:], delta[name][10:])
    assert torch.equal(merged["model.norm.weight"], delta["model.norm.weight"] + base["model.norm.weight"])
    assert torch.equal(merged["model.mm_projector.weight"], delta["model.mm_projector.weight"])
    assert done.merged == 3


def test_a_base_of_another_size_is_refused(tmp_path: Path) -> None:
    sharded(tmp_path / "base", random(model__norm__weight=(5,)), 1)
    delta = sharded(tmp_path / "delta", random(model__norm__weight=(4,)), 1)
    with pytest.raises(CheckpointError, match=r"model\.norm\.weight does not fit .*\(\(4,\) over \(5,\)\)"):
        convert(delta, tmp_path / "out", base=tmp_path / "base")


def test_an_eva_file_gets_a_config_from_its_shapes(tmp_path: Path) -> None:
    published.write_hf_instructblip(tmp_path / "hf")
    published.write_eva(tmp_path / "eva", load_file(tmp_path / "hf" / SINGLE))
    path = torch_file(tmp_path / "eva_vit_g.pth", load_file(tmp_path / "eva" / SINGLE))
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


def test_minigpt4s_projection_is_found_beside_its_optimiser(tmp_path: Path) -> None:
    model = {"llama_proj.weight": torch.ones(6, 4), "llama_proj.bias": torch.ones(6)}
    path = torch_file(tmp_path / "minigpt4.pth", {"model": model, "optimizer": {"step": 3}, "epoch": 4})
    done = convert(path, tmp_path / "projection.safetensors")
    assert set(done.dropped) == {"optimizer", "epoch"}
    linear = nn.Linear(4, 6)
    load_part(linear, tmp_path / "projection.safetensors", "projector")
    assert linear.bias.tolist() == [1] * 6


def test_a_fine_tuned_branch_converts_to_a_branch(tmp_path: Path) -> None:
    state = {
        "model.vision_tower.btadapter_cls_token": torch.zeros(1, 1, tiny.D),
        "model.vision_tower.btadapter_time_embed.weight": torch.zeros(8, tiny.D),
    }
    for k in range(2):
        names = {"S": tiny.adapter().spatial[0], "T": tiny.adapter().temporal[0]}
        for letter, layer in names.items():
            for name, tensor in layer.state_dict().items():
                state[f"model.vision_tower.btadapter_{letter}_layers.{k}.{name}"] = tensor
    convert(torch_file(tmp_path / "sft.bin", state), tmp_path / "sft.safetensors")
    assert detect(list(state), "file").ends_early
    assert read_adapter(tmp_path / "sft.safetensors").config.num_layers == 3
