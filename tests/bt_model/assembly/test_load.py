"""Model files: what is found, what is refused, and what a loaded model says of itself."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from bt_model.assembly.catalog import BUILT_IN, available, find
from bt_model.assembly.load import load
from bt_model.assembly.model_file import read_model_file
from bt_model.assembly.placement import pick_device
from bt_model.chat import VideoChat
from bt_model.errors import BtchatError, CheckpointError, UnknownNameError
from bt_model.types import FrameSize
from tests import tiny

Edit = Callable[[dict[str, Any]], None]


@pytest.fixture
def folder(tiny_weights: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(tiny_weights / "tiny", tmp_path / "tiny"))


def edited(folder: Path, **changes: object) -> Path:
    path = folder / f"{tiny.MODEL}.model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return path


def loaded(path: Path) -> VideoChat:
    return load(str(path), Path("nowhere"), device="cpu")


def test_models_are_found_by_name_one_folder_below(tiny_weights: Path) -> None:
    assert find("embedded-clip", tiny_weights) == tiny_weights / "tiny" / "embedded-clip.model.json"
    assert set(available(tiny_weights)) == {"embedded", "embedded-clip", "embedded-zeroshot"}


def test_models_are_found_by_path(tiny_weights: Path) -> None:
    path = tiny_weights / "tiny" / "embedded.model.json"
    assert find(str(path), Path("nowhere")) == path


def test_a_model_that_is_alone_in_its_folder_is_found_by_the_folder(
    tiny_weights: Path, tmp_path: Path
) -> None:
    (tmp_path / "mine.model.json").write_text("{}")
    assert find(str(tmp_path), tiny_weights) == tmp_path / "mine.model.json"
    with pytest.raises(UnknownNameError):
        find(str(tiny_weights / "tiny"), tiny_weights)  # three of them


def test_an_unknown_model_is_refused_with_the_names_that_there_are(tiny_weights: Path) -> None:
    with pytest.raises(
        UnknownNameError, match="there are: embedded, embedded-clip, embedded-zeroshot"
    ) as caught:
        find("gpt", tiny_weights)
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")


def test_the_embedded_models_are_found_from_any_folder(tmp_path: Path) -> None:
    assert find("embedded", tmp_path / "none") == BUILT_IN / "embedded" / "embedded.model.json"


def test_a_model_of_the_users_stands_above_one_that_is_built_in(tmp_path: Path) -> None:
    own = tmp_path / "mine" / "embedded.model.json"
    own.parent.mkdir()
    own.write_text("{}")
    assert find("embedded", tmp_path) == own


def test_the_card_tells_what_the_web_side_must_know(tiny_weights: Path) -> None:
    card = load("embedded", tiny_weights, device="cpu").card
    known = (
        card.id, card.backend, card.frame_size, card.default_frames, card.max_frames, card.max_context,
        card.num_video_tokens, card.video_dim, card.pooling,
    )  # fmt: skip
    size = FrameSize(tiny.SIDE, "crop")
    expected = (
        "embedded",
        "llava",
        size,
        8,
        2 * tiny.MAX_FRAMES,
        tiny.CONTEXT,
        tiny.P + 1,
        tiny.D,
        "patches_cls",
    )
    assert known == expected
    assert card.notice.startswith("Instruction-tuned.")


def test_a_loaded_model_is_frozen(tiny_weights: Path) -> None:
    encoder = load("embedded", tiny_weights, device="cpu").encoder
    assert not [name for name, weight in encoder.named_parameters() if weight.requires_grad]
    assert not encoder.training


def test_without_a_branch_the_model_is_clips_frame_average(tiny_weights: Path) -> None:
    chat = load("embedded-clip", tiny_weights, device="cpu")
    assert chat.encoder.config.kind == "clip"
    clips = tiny.clips(1, 4)
    torch.testing.assert_close(chat.encode(clips), chat.encode(clips.flip(1)))


def test_pooling_without_the_cls_takes_one_token_less(folder: Path) -> None:
    chat = loaded(edited(folder, pooling="patches"))
    assert chat.encode(tiny.clips(1, 4)).shape == (1, tiny.P, tiny.D)
    assert chat.card.num_video_tokens == tiny.P


def test_upstream_compat_changes_the_features(folder: Path) -> None:
    plain = loaded(folder / "embedded.model.json").encode(tiny.clips(1, 4))
    assert (loaded(edited(folder, upstream_compat=True)).encode(tiny.clips(1, 4)) - plain).abs().max() > 1e-3


@pytest.mark.parametrize(
    "changes",
    [
        {"upstream_compat": True},
        {"gates": [2.0, 1.0]},
        {"adapter": None},
        {"adapter": "bt_adapter.safetensors"},
    ],
)
def test_whatever_changes_features_changes_the_fingerprint(folder: Path, changes: dict[str, object]) -> None:
    before = loaded(folder / "embedded.model.json").card.fingerprint
    assert loaded(edited(folder, **changes)).card.fingerprint != before


def test_equal_files_have_equal_fingerprints(folder: Path, tiny_weights: Path) -> None:
    path = edited(folder, notice="other words")
    assert loaded(path).card.fingerprint == load("embedded", tiny_weights, device="cpu").card.fingerprint
    other = load("embedded", tiny_weights, device="cpu").card
    assert loaded(path).card.model_fingerprint == other.model_fingerprint


def _other_weight(folder: Path) -> None:
    path = folder / "llava_video" / "model.safetensors"
    tensors = load_file(path)
    tensors["lm_head.weight"][0, 0] += 1
    save_file(tensors, path)


def _other_tokenizer(folder: Path) -> None:
    with (folder / "llava_video" / "tokenizer.json").open("a") as file:
        file.write(" ")


@pytest.mark.parametrize(
    "change",
    [
        _other_weight,
        _other_tokenizer,
        lambda folder: edited(folder, template="vicuna_v1_1"),
        lambda folder: edited(folder, defaults={"temperature": 0.5}),
    ],
)
def test_what_changes_answers_alone_leaves_the_tokens_theirs(
    folder: Path, change: Callable[[Path], object]
) -> None:
    path = folder / "embedded.model.json"
    before = loaded(path).card
    change(folder)
    after = loaded(path).card
    assert after.fingerprint == before.fingerprint
    assert after.model_fingerprint != before.model_fingerprint


def test_quantised_weights_are_another_model(folder: Path) -> None:
    path = str(folder / "embedded.model.json")
    prints = {
        load(path, Path("nowhere"), device="cpu", quantise=quantise).card.model_fingerprint
        for quantise in ("none", "int8")
    }
    assert len(prints) == 2


@pytest.mark.parametrize(
    "text", ["", "[]", "null", '{"id": "a"}', '{"id": "a", "backend": "b", "tower": "c", "towr": 1}']
)
def test_a_model_file_with_other_fields_is_refused_by_name(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.model.json"
    path.write_text(text)
    with pytest.raises(CheckpointError, match=r"a\.model\.json: "):
        read_model_file(path)


def test_a_refused_model_file_is_told_the_known_and_the_needed_fields(tmp_path: Path) -> None:
    path = tmp_path / "a.model.json"
    path.write_text('{"id": "a", "towr": 1}')
    with pytest.raises(CheckpointError, match="towr is not known; allowed: id, backend, tower, llm, "):
        read_model_file(path)
    path.write_text('{"id": "a", "tower": "clip"}')
    with pytest.raises(CheckpointError, match="backend is missing, and needed"):
        read_model_file(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pooling": "mean"}, "pooling is 'mean'"),
        ({"template": "v9"}, "template is 'v9'"),
        ({"backend": "gpt"}, "backend is 'gpt'"),
    ],
)
def test_unknown_names_in_a_model_file_refuse_to_load(
    folder: Path, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(UnknownNameError, match=message):
        loaded(edited(folder, **changes))


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("clip/model.safetensors", "vision_model.encoder.layers.0.mlp.fc1.weight"),
        ("llava_video/model.safetensors", "model.layers.0.mlp.up_proj.weight"),
        ("llava_video/model.safetensors", "model.mm_projector.weight"),
        ("bt_adapter_tuned.safetensors", "backbone.btadapter_S_layers.0.mlp.fc1.weight"),
    ],
)
def test_a_missing_tensor_refuses_to_load(folder: Path, name: str, key: str) -> None:
    tensors = load_file(folder / name)
    del tensors[key]
    save_file(tensors, folder / name)
    with pytest.raises(CheckpointError, match="missing .*" + key.rpartition(".")[2]):
        loaded(folder / "embedded.model.json")


@pytest.mark.parametrize(
    "name",
    [
        "clip/config.json",
        "llava_video/config.json",
        "llava_video/model.safetensors",
        "bt_adapter_tuned.safetensors",
    ],
)
def test_a_missing_file_refuses_to_load(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(CheckpointError, match=Path(name).name):
        loaded(folder / "embedded.model.json")


@pytest.mark.parametrize(
    ("name", "field"), [("clip", "projection_dim"), ("clip", "vision_config"), ("llava_video", "hidden_size")]
)
def test_a_config_that_lacks_a_field_refuses_to_load(folder: Path, name: str, field: str) -> None:
    path = folder / name / "config.json"
    config = json.loads(path.read_text())
    del config[field]
    config.get("vision_config", {}).pop(field, None)
    path.write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=f"config.json: .*{field}"):
        loaded(folder / "embedded.model.json")


@pytest.mark.parametrize(
    ("name", "why"),
    [("tpu9", "allowed: auto"), ("meta:x", "allowed: auto"), ("cuda:77", "it cannot be used here")],
)
def test_a_device_that_does_not_exist_is_refused(name: str, why: str) -> None:
    with pytest.raises(BtchatError, match=f"device is '{name}'; {why}") as caught:
        pick_device(name)
    assert caught.value.param == "device"


def test_auto_picks_a_device_that_works() -> None:
    assert pick_device("auto").type in {"cpu", "cuda"}
