import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from bt_model.checkpoints.export import published
from bt_model.checkpoints.layouts.clip import BRANCH, CHAT, HF_CLIP, LEGACY, OWN, RETRIEVAL
from bt_model.checkpoints.layouts.key_map import KeyMap
from bt_model.checkpoints.layouts.llava import in_chat_model
from bt_model.checkpoints.load import load_adapter, load_part, load_vision, read_adapter
from bt_model.checkpoints.weights import Weights, open_checkpoint, open_weights
from bt_model.config import BTAdapterConfig, ClipTextConfig, ClipVisionConfig
from bt_model.errors import CheckpointError, InvalidValueError
from bt_model.text.clip_text import ClipTextTower
from bt_model.vision.bt_adapter import BTAdapter
from bt_model.vision.clip import ClipVisionTower

VISION = ClipVisionConfig(
    image_size=8, patch_size=4, width=16, num_layers=6, num_heads=2, mlp_width=24, projection_dim=10
)
TEXT = ClipTextConfig(
    vocab_size=20, context_length=9, width=12, num_layers=2, num_heads=2, mlp_width=16, projection_dim=10
)
PLAIN = BTAdapterConfig(middle_scale=None, output_scale=None)


def tower(seed: int = 0) -> ClipVisionTower:
    torch.manual_seed(seed)
    return ClipVisionTower(VISION)


def branch(config: BTAdapterConfig | None = None, seed: int = 1) -> BTAdapter:
    torch.manual_seed(seed)
    adapter = BTAdapter(VISION, config or BTAdapterConfig())
    for parameter in adapter.parameters():  # zeros would hide what was not loaded
        nn.init.normal_(parameter)
    return adapter


def same(left: nn.Module, right: nn.Module) -> bool:
    theirs = right.state_dict()
    return all(torch.equal(tensor, theirs[name]) for name, tensor in left.state_dict().items())


def retrieval_state(config: BTAdapterConfig | None = None) -> dict[str, Tensor]:
    parts = {"vision": tower().state_dict(), "adapter": branch(config).state_dict()}
    return published(parts, RETRIEVAL)


def fine_tuned_state() -> dict[str, Tensor]:
    names = {
        name: tensor
        for name, tensor in branch(PLAIN).state_dict().items()
        if not name.startswith(("spatial.3.", "temporal.3."))
    }
    return published({"adapter": names}, in_chat_model(BRANCH))


def filled(source: Any, **options: Any) -> BTAdapter:
    weights = read_adapter(open_checkpoint(source), **options)
    adapter = BTAdapter(VISION, weights.config)
    load_adapter(adapter, weights, tower())
    return adapter


@pytest.mark.parametrize("keys", [RETRIEVAL, LEGACY, CHAT, in_chat_model(CHAT), OWN], ids=lambda k: k.name)
def test_a_branch_written_in_any_layout_reads_back_equal(keys: KeyMap, tmp_path: Path) -> None:
    vision = tower().state_dict() | {}
    if keys.name == CHAT.name:
        del vision["visual_projection.weight"]
    save_file(
        published({"vision": vision, "adapter": branch().state_dict()}, keys), tmp_path / "w.safetensors"
    )
    assert same(filled(tmp_path / "w.safetensors"), branch())


def test_a_clip_folder_reads_back_equal(tmp_path: Path) -> None:
    torch.manual_seed(2)
    text = ClipTextTower(TEXT)
    state = published({"vision": tower().state_dict(), "text": text.state_dict()}, HF_CLIP)
    save_file(state | {"logit_scale": torch.tensor(4.6)}, tmp_path / "model.safetensors")
    vision_copy, text_copy = tower(seed=7), ClipTextTower(TEXT)
    load_vision(vision_copy, open_checkpoint(tmp_path))
    load_part(text_copy, open_checkpoint(tmp_path), "text")
    assert same(vision_copy, tower())
    assert same(text_copy, text)


def test_the_videos_cls_is_written_in_its_published_shape() -> None:
    assert retrieval_state()["backbone.btadapter_cls_token"].shape == (1, 1, VISION.width)


def test_a_layout_refuses_a_tensor_that_it_does_not_hold() -> None:
    with pytest.raises(InvalidValueError, match=r"text\.final_layer_norm\.bias .*fine-tuned branch"):
        published({"text": {"final_layer_norm.bias": torch.zeros(2)}}, BRANCH)


def test_one_error_names_the_file_and_every_misfit(tmp_path: Path) -> None:
    state = retrieval_state()
    del state["backbone.class_embedding"]
    state["backbone.layers.6.mlp.fc1.bias"] = torch.zeros(3)
    state["backbone.post_layernorm.bias"] = torch.zeros(17)
    path = tmp_path / "broken.safetensors"
    save_file(state, path)
    with pytest.raises(CheckpointError) as caught:
        load_vision(tower(), open_checkpoint(path))
    assert caught.value.message == (
        f"{path}: missing class_embedding; unexpected layers.6.mlp.fc1.bias; "
        "wrong shape post_layernorm.bias (expected 16, found 17) for ClipVisionTower"
    )


def test_a_misfit_leaves_the_module_as_it_was() -> None:
    state = retrieval_state()
    state["backbone.post_layernorm.bias"] = torch.zeros(17)
    target = tower(seed=5)
    with pytest.raises(CheckpointError):
        load_vision(target, open_checkpoint(state))
    assert same(target, tower(seed=5))


def test_a_name_outside_the_layout_is_unexpected() -> None:
    with pytest.raises(
        CheckpointError, match=r"unexpected backbone\.adapter_of_someone in a retrieval checkpoint"
    ):
        open_checkpoint(retrieval_state() | {"backbone.adapter_of_someone": torch.zeros(1)})


def test_shapes_are_compared_before_any_bytes_are_read() -> None:
    shapes = {name: tuple(tensor.shape) for name, tensor in retrieval_state().items()}
    shapes["backbone.layers.0.mlp.fc1.weight"] = (24, 15)

    def read(name: str) -> Tensor:
        raise AssertionError(f"read {name}")

    with pytest.raises(CheckpointError, match=r"layers\.0\.mlp\.fc1\.weight \(expected 24x16, found 24x15\)"):
        load_vision(tower(), open_checkpoint(Weights("lazy", shapes, read)))


def test_a_module_shares_no_memory_with_what_it_was_filled_from() -> None:
    state, target = retrieval_state(), tower(seed=5)
    load_vision(target, open_checkpoint(state))
    state["backbone.class_embedding"].fill_(9.0)
    assert same(target, tower())


def test_a_module_without_memory_takes_the_tensors() -> None:
    with torch.device("meta"):
        target = ClipVisionTower(VISION)
    load_vision(target, open_checkpoint(retrieval_state()))
    assert same(target, tower())


def test_what_is_absent_is_nan_in_a_module_that_had_no_memory() -> None:
    state = retrieval_state()
    del state["backbone.visual_projection.weight"]
    with torch.device("meta"):
        target = ClipVisionTower(VISION)
    load_vision(target, open_checkpoint(state), may_miss=("visual_projection.",))
    assert target.visual_projection.weight.isnan().all()


def test_missing_parameters_may_be_allowed_by_name() -> None:
    state, target = retrieval_state(), tower(seed=5)
    del state["backbone.visual_projection.weight"]
    load_vision(target, open_checkpoint(state), may_miss=("visual_projection.",))
    assert torch.equal(target.visual_projection.weight, tower(seed=5).visual_projection.weight)


def test_the_layer_that_a_fine_tuned_file_lacks_starts_as_the_trunks_last() -> None:
    assert same(filled(fine_tuned_state()).spatial[3], tower().layers[5])


def test_the_layer_that_a_fine_tuned_file_lacks_has_no_effect_of_time() -> None:
    last = filled(fine_tuned_state()).temporal[3]
    assert not any(tensor.any() for tensor in last.get_submodule("temporal_fc").state_dict().values())


def test_a_fine_tuned_file_fills_the_first_layers() -> None:
    assert same(filled(fine_tuned_state()).spatial[:3], branch(PLAIN).spatial[:3])


def test_the_branch_facts_come_from_the_shapes() -> None:
    config = BTAdapterConfig(num_layers=2, max_frames=7)
    assert read_adapter(open_checkpoint(retrieval_state(config))).config == config


def test_absent_gates_are_one_half_on_the_chat_side() -> None:
    gate = filled(retrieval_state(PLAIN), side="chat").middle_gate
    assert gate is not None
    assert gate.unique().tolist() == [0.5]


def test_absent_gates_are_plain_sums_on_the_retrieval_side() -> None:
    adapter = filled(retrieval_state(PLAIN), side="retrieval")
    assert (adapter.middle_gate, adapter.output_gate) == (None, None)


def test_present_gates_are_used_on_the_retrieval_side() -> None:
    assert read_adapter(open_checkpoint(retrieval_state()), side="retrieval").config == BTAdapterConfig()


def test_plain_sums_can_be_forced_where_gates_are_present() -> None:
    assert read_adapter(open_checkpoint(retrieval_state()), gated=False).config == PLAIN


def test_gates_can_be_forced_where_they_are_absent() -> None:
    config = read_adapter(open_checkpoint(retrieval_state(PLAIN)), side="retrieval", gated=True).config
    assert config == BTAdapterConfig()


def test_a_checkpoint_without_a_branch_is_refused() -> None:
    state = published({"vision": tower().state_dict()}, RETRIEVAL)
    with pytest.raises(CheckpointError, match=r"missing adapter\.cls_token"):
        read_adapter(open_checkpoint(state))


def test_a_branch_with_a_gap_is_refused() -> None:
    state = {k: v for k, v in retrieval_state().items() if "btadapter_T_layers.1." not in k}
    with pytest.raises(CheckpointError, match=r"spatial \[0, 1, 2, 3\], temporal \[0, 2, 3\]"):
        read_adapter(open_checkpoint(state))


def test_a_branch_of_another_width_is_refused_with_file_and_both_shapes(tmp_path: Path) -> None:
    save_file(retrieval_state(), tmp_path / "w.safetensors")
    weights = read_adapter(open_checkpoint(tmp_path / "w.safetensors"))
    adapter = BTAdapter(ClipVisionConfig(8, 4, 18, 6, 2, 24, 10), weights.config)
    with pytest.raises(CheckpointError, match=r"w\.safetensors: .*cls_token \(expected 18, found 16\)"):
        load_adapter(adapter, weights, ClipVisionTower(ClipVisionConfig(8, 4, 18, 6, 2, 24, 10)))


def test_a_full_checkpoint_never_overwrites_the_slice_that_training_renumbers() -> None:
    target = tower(seed=5)
    load_vision(target, open_checkpoint(retrieval_state()))
    assert same(target.layers[2], tower().layers[2])


def test_a_training_slice_lands_at_the_end_of_the_trunk() -> None:
    source, target = tower(), tower(seed=5)
    state = published({"adapter": branch(BTAdapterConfig(num_layers=3)).state_dict()}, CHAT)
    for index in range(3):
        for name, tensor in source.layers[2 + index].state_dict().items():
            state[f"layers.{index}.{name}"] = tensor
    load_vision(target, open_checkpoint(state), may_miss=("",))
    assert [same(a, b) for a, b in zip(target.layers, source.layers, strict=True)] == [
        False, False, True, True, True, False
    ]  # fmt: skip


def test_a_file_says_which_parts_it_holds() -> None:
    assert list(open_checkpoint(fine_tuned_state()).parts) == ["adapter"]
    assert set(open_checkpoint(retrieval_state()).parts) == {"vision", "adapter"}


def test_a_projector_is_read_from_a_chat_models_checkpoint() -> None:
    source, target = nn.Linear(3, 2), nn.Linear(3, 2)
    state = {f"model.mm_projector.{name}": tensor for name, tensor in source.state_dict().items()}
    load_part(target, open_checkpoint(state | {"model.embed_tokens.weight": torch.zeros(5, 2)}), "projector")
    assert same(target, source)


def write_shards(folder: Path) -> dict[str, Tensor]:
    state = {"vision.a": torch.ones(2), "vision.b": torch.zeros(3)}
    save_file({"vision.a": state["vision.a"]}, folder / "one.safetensors")
    save_file({"vision.b": state["vision.b"]}, folder / "two.safetensors")
    weight_map = {"vision.a": "one.safetensors", "vision.b": "two.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return state


def test_a_folder_of_several_files_is_one_checkpoint(tmp_path: Path) -> None:
    state = write_shards(tmp_path)
    weights = open_weights(tmp_path)
    assert {name: tensor.tolist() for name, tensor in weights.items()} == {
        name: tensor.tolist() for name, tensor in state.items()
    }


def test_an_index_that_names_a_tensor_nobody_holds_is_refused(tmp_path: Path) -> None:
    write_shards(tmp_path)
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"vision.c": "one.safetensors"}}))
    with pytest.raises(CheckpointError, match=r"their file does not hold: vision\.c"):
        open_weights(tmp_path)


@pytest.mark.parametrize("text", ["not json", "{}"])
def test_a_damaged_index_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"index\.json: (not a readable JSON file|weight_map is None)"):
        open_weights(tmp_path)


def test_a_cut_file_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "cut.safetensors"
    save_file({"vision.a": torch.ones(99)}, path)
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(CheckpointError, match=r"cut\.safetensors: not a readable safetensors file"):
        open_weights(path)


def test_a_pickle_is_never_opened(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save({}, path)
    with pytest.raises(CheckpointError, match=r"weights\.pth: only safetensors files are read, not \.pth"):
        open_weights(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"model\.safetensors: no such file"):
        open_weights(tmp_path)
