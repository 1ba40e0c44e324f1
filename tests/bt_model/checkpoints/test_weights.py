"""A checkpoint is opened once, whatever is asked of it; tensors that nothing can compute with are refused."""

import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import BuiltinMethodType, FrameType
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from bt_model.assembly.load import load
from bt_model.checkpoints.layouts.key_map import KeyMap
from bt_model.checkpoints.weights import INDEX, Weights, is_finite, open_checkpoint, open_weights
from bt_model.errors import CheckpointError
from tests import published

WEIGHTS = Path(__file__).parents[3] / "weights"
EMBEDDED = WEIGHTS / "embedded"


def watched(call: Callable[[], object]) -> Counter[str]:
    """What a call does, seen by the interpreter's own profiler, so that nothing has to be patched.

    `files`: handles of safetensors' `safe_open`, each of which is asked for its names. `names`: tensors whose
    names were mapped. `configs`: JSON files read.
    """
    counts = Counter[str]()

    def watch(frame: FrameType, event: str, called: Any) -> None:
        if event == "call":
            counts["names"] += frame.f_code is KeyMap.stored.__code__
            counts["configs"] += frame.f_code.co_name == "read_json"
        elif event == "c_call" and isinstance(called, BuiltinMethodType) and called.__name__ == "keys":
            counts["files"] += type(called.__self__).__name__ == "safe_open"

    before = sys.getprofile()
    sys.setprofile(watch)
    try:
        call()
    finally:
        sys.setprofile(before)
    return counts


def test_loading_a_model_opens_each_of_its_files_once() -> None:
    parts = ("clip", "llava_video", "bt_adapter_tuned.safetensors")
    num_tensors = sum(len(open_weights(EMBEDDED / part)) for part in parts)
    counts = watched(lambda: load("embedded", WEIGHTS, device="cpu"))
    assert counts == {
        "files": 3,
        "names": num_tensors,
        "configs": 3,
    }  # the model file, and those of two folders


def test_a_folder_that_is_three_parts_of_a_model_is_opened_once(tmp_path: Path) -> None:
    published.write_all(tmp_path)
    counts = watched(lambda: load("llava-hf", tmp_path, device="cpu"))
    assert (counts["files"], counts["configs"]) == (1, 3)  # model file, config.json, generation_config.json


def test_a_file_that_is_listed_is_opened_without_torch() -> None:
    listed = open_checkpoint(EMBEDDED / "bt_adapter.safetensors", is_listing=True)
    whole = open_checkpoint(EMBEDDED / "bt_adapter.safetensors")
    assert listed.temporal == whole.temporal is not None
    assert listed.shapes("adapter") == whole.shapes("adapter")
    code = "import sys; from pathlib import Path; from bt_model.checkpoints.weights import open_checkpoint;"
    code += "open_checkpoint(Path(sys.argv[1]), is_listing=True); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code, str(EMBEDDED / "bt_adapter.safetensors")], check=True)


def test_what_a_fused_tensor_holds_is_read_at_once() -> None:
    fused = {"blocks.0.attn.qkv.weight": torch.arange(18.0).reshape(6, 3)}
    asked: list[str] = []

    def read(name: str) -> Tensor:
        asked.append(name)
        return fused[name]

    shapes = {name: tuple(tensor.shape) for name, tensor in fused.items()}
    thirds = open_checkpoint(Weights("fused", shapes, read)).read("vision")
    assert asked == list(fused)
    assert [third.tolist() for third in thirds.values()] == [
        third.tolist() for third in fused["blocks.0.attn.qkv.weight"].chunk(3)
    ]


def test_a_part_that_is_not_there_is_empty() -> None:
    checkpoint = open_checkpoint({"vision.layers.0.a": torch.ones(2), "vision.layers.0.b": torch.ones(3)})
    assert (checkpoint.shapes("text"), checkpoint.read("text")) == ({}, {})
    assert list(checkpoint.read("vision", ["layers.0.b"])) == ["layers.0.b"]
    assert [checkpoint.count_layers("vision", each) for each in ("layers.", "layer", "blocks.")] == [1, 0, 0]
    with pytest.raises(CheckpointError, match=r"config\.json: not a readable JSON file"):
        checkpoint.required_config()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_one_number_that_is_not_finite_is_found_wherever_it_stands(dtype: torch.dtype) -> None:
    tensor = torch.zeros((1 << 22) + 6, dtype=dtype)  # more than is looked at together
    for place in (0, 1, (1 << 22) - 1, 1 << 22, (1 << 22) + 5):
        for number in (torch.nan, torch.inf, -torch.inf):
            tensor[place] = number
            assert not is_finite(tensor)
        tensor[place] = 1
    assert is_finite(tensor)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_finite_numbers_whose_sum_is_not_are_finite(dtype: torch.dtype) -> None:
    assert is_finite(torch.full((1000,), torch.finfo(dtype).max, dtype=dtype))
    assert is_finite(torch.empty(0, dtype=dtype))
    assert is_finite(torch.ones((), dtype=dtype))


FAULTS: dict[str, Callable[[Tensor], Tensor]] = {
    "holds a number that is not finite": lambda tensor: torch.full_like(tensor, torch.nan),
    "is int64; allowed: float16, bfloat16, float32, float64": Tensor.long,
    "is bool; allowed: float16, bfloat16, float32, float64": Tensor.bool,
    "is float8_e4m3fn; allowed: float16,": lambda tensor: tensor.to(torch.float8_e4m3fn),
    "is complex64; allowed: float16,": lambda tensor: tensor.to(torch.complex64),
}


@pytest.mark.parametrize("message", FAULTS)
@pytest.mark.parametrize(
    ("file", "key"),
    [
        ("clip/model.safetensors", "vision_model.encoder.layers.1.mlp.fc1.weight"),
        ("llava_video/model.safetensors", "model.layers.0.mlp.up_proj.weight"),
        ("llava_video/model.safetensors", "model.mm_projector.weight"),
        ("bt_adapter_tuned.safetensors", "backbone.btadapter_T_layers.0.temporal_fc.weight"),
    ],
)
def test_a_tensor_that_nothing_can_compute_with_refuses_to_load(
    tmp_path: Path, file: str, key: str, message: str
) -> None:
    path = Path(shutil.copytree(EMBEDDED, tmp_path / "embedded")) / file
    header, tensors = dict(open_weights(path).metadata), load_file(path)
    save_file(tensors | {key: FAULTS[message](tensors[key])}, path, metadata=header)
    with pytest.raises(CheckpointError, match=re.escape(f"{path}: {key} {message}")):
        load("embedded", tmp_path, device="cpu")


def test_a_tensor_in_one_of_several_files_is_named_with_its_file(tmp_path: Path) -> None:
    save_file({"vision.a": torch.ones(2)}, tmp_path / "one.safetensors")
    save_file({"vision.b": torch.full((3,), torch.nan)}, tmp_path / "two.safetensors")
    weight_map = {"vision.a": "one.safetensors", "vision.b": "two.safetensors"}
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": weight_map}))
    checkpoint = open_checkpoint(tmp_path)
    assert checkpoint.where == str(tmp_path)
    assert list(checkpoint.read("vision", ["a"])) == ["a"]
    with pytest.raises(
        CheckpointError, match=r"two\.safetensors: vision\.b holds a number that is not finite"
    ):
        checkpoint.read("vision")


def test_what_a_layout_leaves_out_may_be_anything() -> None:
    left_out = {"logit_scale": torch.tensor(torch.nan), "attn_mask": torch.ones(2, dtype=torch.bool)}
    blocks = {"visual.blocks.0.attn.qkv.weight": torch.ones(6, 2)}
    assert len(open_checkpoint(blocks | left_out).read("vision")) == 3
