"""Pickles in, safetensors out: nothing is lost, nothing is half there."""

import collections
import pickle
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn

from bt_model.checkpoints.conversion.convert import convert
from bt_model.checkpoints.layouts.detect import detect
from bt_model.checkpoints.load import load_part, load_vision, read_adapter
from bt_model.checkpoints.weights import INDEX, SINGLE, open_checkpoint, open_weights
from bt_model.errors import CheckpointError
from bt_model.vision.clip import ClipVisionTower
from tests import tiny
from tests.bt_model.checkpoints.conversion.torch_files import random, sharded, torch_file


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
    assert done.unknown == {"mmengine_for_a_test.HistoryBuffer"}
    load_vision(ClipVisionTower(tiny.VISION), open_checkpoint(tmp_path / "out.safetensors"))


def test_the_published_projector_that_is_cut_off_is_explained(tmp_path: Path) -> None:
    path = torch_file(tmp_path / "sft_mm_projector.bin", {"weight": torch.zeros(4096, 1024)})
    data = path.read_bytes()
    path.write_bytes(data[: 1 << 24])
    with pytest.raises(CheckpointError, match=r"cut off at exactly 16777216 bytes.*zero-shot setting"):
        convert(path, tmp_path / "out.safetensors")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["sft_mm_projector.bin"]


def test_shards_become_shards_with_an_index_and_what_lies_beside(tmp_path: Path) -> None:
    tensors = random(a=(100, 10), b=(100, 10), c=(10,), d=(100, 10))
    done = convert(sharded(tmp_path / "in", tensors, 2), tmp_path / "out", shard_bytes=5000)
    assert sorted(done.names) == sorted(tensors)
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


def test_transformers_can_read_what_was_converted(tmp_path: Path) -> None:
    convert(torch_file(tmp_path / "a.bin", {"w": torch.ones(2)}), tmp_path / "out")
    with safe_open(tmp_path / "out" / SINGLE, "pt") as file:
        assert file.metadata() == {"format": "pt"}  # it refuses files without it


def test_a_source_without_a_tensor_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    path = torch_file(tmp_path / "a.bin", {})
    for out in ("out", "out.safetensors"):
        with pytest.raises(CheckpointError, match=r"a\.bin: holds no tensor"):
            convert(path, tmp_path / out)
    assert [each.name for each in tmp_path.iterdir()] == ["a.bin"]


def test_the_report_counts_and_names_what_was_left_out_and_what_was_not_run(tmp_path: Path) -> None:
    state = {"w": torch.ones(500), "step": 3, "path": Path("a"), "counts": collections.Counter("aab")}
    report = str(convert(torch_file(tmp_path / "a.bin", state), tmp_path / "out"))
    assert report.splitlines() == [
        f"{tmp_path / 'out'}: 1 tensors, 0.00 GB",
        "  left out counts: no tensor",
        "  left out path: no tensor",
        "  left out step: no tensor",
        f"  not run: collections.Counter, {type(Path()).__module__}.PosixPath",  # Python 3.13 has moved it
    ]


def test_a_plain_report_is_one_line(tmp_path: Path) -> None:
    report = str(convert(torch_file(tmp_path / "a.bin", {"w": torch.ones(5_000_000)}), tmp_path / "out"))
    assert report == f"{tmp_path / 'out'}: 1 tensors, 0.02 GB"


@pytest.mark.parametrize("out", ["out", "out.safetensors"])
def test_every_user_may_read_what_was_converted_whatever_the_librarys_own_mode(
    tmp_path: Path, out: str
) -> None:
    convert(sharded(tmp_path / "in", random(a=(100, 10), b=(100, 10)), 2), tmp_path / out)
    (path,) = (tmp_path / out).glob("*.safetensors") if out == "out" else [tmp_path / out]
    assert path.stat().st_mode & 0o777 == 0o644


def test_a_tick_names_each_tensor_and_its_bytes(tmp_path: Path) -> None:
    path, told = torch_file(tmp_path / "a.bin", random(a=(3, 2), b=(4,))), list[tuple[str, int]]()
    convert(
        path, tmp_path / "out", dtype=torch.float16, progress=lambda name, size: told.append((name, size))
    )
    assert told == [("a", 12), ("b", 8)]


def test_several_shards_do_not_become_one_file(tmp_path: Path) -> None:
    path = torch_file(tmp_path / "a.bin", random(a=(100,), b=(100,)))
    with pytest.raises(CheckpointError, match="more than one shard; give a folder instead of a file"):
        convert(path, tmp_path / "out.safetensors", shard_bytes=400)
    assert [each.name for each in tmp_path.iterdir()] == ["a.bin"]
    convert(path, tmp_path / "out.safetensors", shard_bytes=800)  # both fit exactly


def test_a_tensor_of_two_shards_is_refused(tmp_path: Path) -> None:
    folder = sharded(tmp_path / "in", random(a=(2,), b=(2,)), 2)
    torch_file(folder / "pytorch_model-00002-of-00002.bin", random(a=(2,)))
    with pytest.raises(CheckpointError, match="a is in two shards of the source"):
        convert(folder, tmp_path / "out")


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


def test_minigpt4s_projection_is_found_beside_its_optimiser(tmp_path: Path) -> None:
    model = {"llama_proj.weight": torch.ones(6, 4), "llama_proj.bias": torch.ones(6)}
    path = torch_file(tmp_path / "minigpt4.pth", {"model": model, "optimizer": {"step": 3}, "epoch": 4})
    done = convert(path, tmp_path / "projection.safetensors")
    assert set(done.dropped) == {"optimizer", "epoch"}
    linear = nn.Linear(4, 6)
    load_part(linear, open_checkpoint(tmp_path / "projection.safetensors"), "projector")
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
    assert read_adapter(open_checkpoint(tmp_path / "sft.safetensors")).config.num_layers == 3


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        "5",
        "{}",
        '{"weight_map": []}',
        '{"weight_map": {}}',
        '{"weight_map": {"w": 1}}',
        '{"weight_map": {"w": "../outside.bin"}}',
        '{"weight_map": {"w": "/outside.bin"}}',
        '{"weight_map": {"w": "in/outside.bin"}}',
        '{"weight_map": {"w": ".."}}',
    ],
)
def test_an_index_that_is_none_or_leads_outside_is_refused(tmp_path: Path, text: str) -> None:
    torch_file(tmp_path / "outside.bin", {"w": torch.ones(2)})
    for name in ("pytorch_model.bin.index.json", INDEX):
        (tmp_path / "in").mkdir(exist_ok=True)
        (tmp_path / "in" / name).write_text(text)
    with pytest.raises(CheckpointError, match=r"pytorch_model\.bin\.index\.json: "):
        convert(tmp_path / "in", tmp_path / "out")
    with pytest.raises(CheckpointError, match=r"model\.safetensors\.index\.json: "):
        open_weights(tmp_path / "in")


def test_a_name_that_the_format_keeps_for_itself_is_refused(tmp_path: Path) -> None:
    path = torch_file(tmp_path / "a.bin", {"__metadata__": torch.ones(2)})
    with pytest.raises(CheckpointError, match="a tensor is called __metadata__"):
        convert(path, tmp_path / "out")


@pytest.mark.parametrize("stray", ["llama_model.model.layers.0", "llm_model.model.layers.31"])
def test_minigpt4s_projection_is_found_beside_stray_buffers(tmp_path: Path, stray: str) -> None:
    model = {"llama_proj.weight": torch.ones(6, 4), "llama_proj.bias": torch.ones(6)}
    buffers = {f"{stray}.self_attn.rotary_emb.inv_freq": torch.ones(64)}
    path = torch_file(tmp_path / "minigpt4.pth", {"model": model | buffers})
    convert(path, tmp_path / "projection.safetensors")
    linear = nn.Linear(4, 6)
    load_part(linear, open_checkpoint(tmp_path / "projection.safetensors"), "projector")
    assert linear.bias.tolist() == [1] * 6
