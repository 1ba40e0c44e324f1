"""A delta becomes a model only together with the base that it was made from."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from bt_model.checkpoints.conversion.convert import convert
from bt_model.checkpoints.weights import SINGLE, open_weights
from bt_model.errors import CheckpointError
from tests.bt_model.checkpoints.conversion.torch_files import random, sharded, torch_file


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
    assert str(done).splitlines()[1] == "  3 of them added to the base"


def test_a_base_of_another_size_is_refused(tmp_path: Path) -> None:
    sharded(tmp_path / "base", random(model__norm__weight=(5,)), 1)
    delta = sharded(tmp_path / "delta", random(model__norm__weight=(4,)), 1)
    with pytest.raises(CheckpointError, match=r"model\.norm\.weight does not fit .*\(\(4,\) over \(5,\)\)"):
        convert(delta, tmp_path / "out", base=tmp_path / "base")


def test_a_projector_is_taken_as_it_is_also_where_the_base_has_one(tmp_path: Path) -> None:
    names = {"model__norm__weight": (4,), "model__mm_projector__weight": (4, 6)}
    base, delta = random(**names), random(**names)
    sharded(tmp_path / "base", base, 1)
    convert(sharded(tmp_path / "delta", delta, 1), tmp_path / "out", base=tmp_path / "base")
    merged = open_weights(tmp_path / "out")
    assert torch.equal(merged["model.mm_projector.weight"], delta["model.mm_projector.weight"])
    assert torch.equal(merged["model.norm.weight"], delta["model.norm.weight"] + base["model.norm.weight"])


def test_buffers_of_rotation_need_no_base(tmp_path: Path) -> None:
    name = "model.layers.0.self_attn.rotary_emb.inv_freq"
    sharded(tmp_path / "base", random(model__norm__weight=(4,)), 1)
    delta = {**random(model__norm__weight=(4,)), name: torch.ones(3)}
    convert(sharded(tmp_path / "delta", delta, 1), tmp_path / "out", base=tmp_path / "base")
    assert open_weights(tmp_path / "out")[name].tolist() == [1, 1, 1]


@pytest.mark.parametrize("lacking", ["model.norm.weight", "model.embed_tokens.weight"])
def test_a_base_of_other_names_is_refused_and_nothing_published(tmp_path: Path, lacking: str) -> None:
    whole = random(model__norm__weight=(4,), model__embed_tokens__weight=(10, 4))
    sharded(tmp_path / "base", {name.replace(lacking, "norm.weight"): t for name, t in whole.items()}, 1)
    delta = sharded(tmp_path / "delta", whole, 1)
    with pytest.raises(CheckpointError, match=f"base: {lacking} of the delta is not in this base"):
        convert(delta, tmp_path / "out", base=tmp_path / "base")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "delta", "base"),
    [
        ("model__norm__weight", (5,), (4,)),
        ("model__layers__0__mlp__up_proj__weight", (6, 4), (5, 4)),
        ("model__embed_tokens__weight", (9, 4), (10, 4)),
        ("model__embed_tokens__weight", (10, 3), (10, 4)),
        ("lm_head__weight", (10, 4), (4,)),
        ("lm_head__weight", (10, 4), ()),
        ("lm_head__weight", (5,), (4,)),
    ],
)
def test_only_tables_of_tokens_may_grow(
    tmp_path: Path, name: str, delta: tuple[int, ...], base: tuple[int, ...]
) -> None:
    torch_file(tmp_path / "base.bin", random(**{name: base}))
    source = torch_file(tmp_path / "delta.bin", random(**{name: delta}))
    with pytest.raises(CheckpointError, match="does not fit its delta"):
        convert(source, tmp_path / "out", base=tmp_path / "base.bin")
