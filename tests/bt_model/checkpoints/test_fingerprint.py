from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from bt_model.checkpoints.fingerprint import fingerprint
from bt_model.checkpoints.weights import open_weights

STATE = {"a": torch.arange(6, dtype=torch.float32).reshape(2, 3), "b": torch.ones(2, dtype=torch.float16)}


def test_the_fingerprint_stays_the_same_from_release_to_release() -> None:
    assert fingerprint(STATE) == "47c76538de1c8a85020f8ce87554430e051f32b76f914939814ac1d8a598de42"


def test_the_order_of_tensors_does_not_matter() -> None:
    assert fingerprint(dict(reversed(STATE.items()))) == fingerprint(STATE)


def test_the_layout_in_memory_does_not_matter() -> None:
    turned = STATE["a"].T.contiguous().T
    assert not turned.is_contiguous()
    assert fingerprint(STATE | {"a": turned}) == fingerprint(STATE)


def test_a_file_and_its_tensors_have_one_fingerprint(tmp_path: Path) -> None:
    save_file(STATE, tmp_path / "w.safetensors")
    assert fingerprint(open_weights(tmp_path / "w.safetensors")) == fingerprint(STATE)


def flipped() -> Tensor:
    bumped = STATE["a"].clone()
    bumped[1, 2] = 5.0000005
    return bumped


@pytest.mark.parametrize(
    "other",
    [
        {"c": STATE["a"], "b": STATE["b"]},
        STATE | {"a": STATE["a"].reshape(3, 2)},
        STATE | {"b": STATE["b"].view(torch.bfloat16)},
        STATE | {"a": flipped()},
        {"a": STATE["a"]},
    ],
    ids=["name", "shape", "dtype", "last bit", "missing tensor"],
)
def test_any_change_changes_the_fingerprint(other: dict[str, Tensor]) -> None:
    assert fingerprint(other) != fingerprint(STATE)


def test_large_and_scalar_tensors_are_read_whole() -> None:
    large = torch.zeros((1 << 22) + 5)
    before = fingerprint({"large": large, "scalar": torch.tensor(1.0)})
    large[-1] = 1
    assert fingerprint({"large": large, "scalar": torch.tensor(1.0)}) != before
