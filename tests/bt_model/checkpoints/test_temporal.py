"""Temporal models of every kind: saved, served through a model file, and the same as in memory."""

import contextlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from bt_model.assembly.load import load
from bt_model.assembly.memory import memory_estimate
from bt_model.assembly.towers import load_tower
from bt_model.chat import VideoChat
from bt_model.checkpoints.metadata import KEY, parse_metadata
from bt_model.checkpoints.temporal import save_temporal
from bt_model.checkpoints.weights import open_checkpoint, open_weights
from bt_model.config import TemporalConfig
from bt_model.errors import CheckpointError, InvalidValueError
from bt_model.generation.engine import BatchEngine
from bt_model.types import GenerateOptions, Turn, VideoTokens
from bt_model.video.sample import rounded_down
from bt_model.vision.encoder import TemporalEncoder
from bt_model.vision.pool import frames_cls, pooling
from btchat.commands.models import describe_all, table
from tests import published, tiny
from tests.tiny import ADAPTER, TRAINED

B, T = 2, 4
FILE = "temporal.safetensors"
SWITCHED = {
    "added": replace(ADAPTER, combination="add"),
    "concatenated": replace(ADAPTER, combination="concat"),
    "without_projection": replace(ADAPTER, projection="none"),
    "random_projection": replace(ADAPTER, projection="random"),
    "alone": replace(ADAPTER, interaction=False),
    "alone_concatenated": replace(ADAPTER, interaction=False, combination="concat"),
    "dropped": replace(ADAPTER, drop_path=0.1),
    "half_gated": replace(ADAPTER, middle_scale=None),
}
CONFIGS = TRAINED | {name: TemporalConfig("bt_adapter", branch) for name, branch in SWITCHED.items()}


@pytest.fixture
def folder(tiny_weights: Path, tmp_path: Path) -> Path:
    """A copy that a test may add to."""
    return Path(shutil.copytree(tiny_weights / "tiny", tmp_path / "tiny"))


def model_file(folder: Path, base: str = "embedded", **changes: Any) -> Path:
    """A model file with FILE as its adapter, and without a word about gates."""
    said = json.loads((folder / f"{base}.model.json").read_text()) | {"adapter": FILE} | changes
    if "gates" not in changes:
        said.pop("gates", None)
    path = folder / "saved.model.json"
    path.write_text(json.dumps(said | {"id": "saved"}))
    return path


def saved(folder: Path, config: TemporalConfig, tower: str = "clip") -> TemporalEncoder:
    """A trained model, also in FILE."""
    model = tiny.trained(config, load_tower(open_checkpoint(folder / tower)))
    save_temporal(folder / FILE, model)
    return model


def loaded(path: Path) -> VideoChat:
    return load(str(path), Path("nowhere"), device="cpu")


def answer(chat: VideoChat) -> str:
    video = VideoTokens(b"video", chat.encode(tiny.clips(1, T))[0])
    engine = BatchEngine(chat.backend.lm, max_batch=1)
    engine.start()
    try:
        turns = [Turn("user", "which way does the red circle move?")]
        return "".join(chat.answer(engine, turns, [video], GenerateOptions(max_tokens=8)))
    finally:
        engine.stop()


@pytest.mark.parametrize("name", CONFIGS)
def test_a_saved_model_is_served_as_it_was(folder: Path, name: str) -> None:
    model = saved(folder, CONFIGS[name])
    chat = loaded(model_file(folder))
    pixels = tiny.pixels(B, T)
    assert torch.equal(frames_cls(chat.encoder.chat(pixels)), frames_cls(model.chat(pixels)))
    assert torch.equal(tiny.retrieve(chat.encoder, pixels), tiny.retrieve(model, pixels))
    assert chat.encoder.config == model.config
    assert chat.card.versions["temporal"] == model.config.name
    assert not [n for n, weight in chat.encoder.named_parameters() if weight.requires_grad]
    assert answer(chat) == answer(replace(chat, encoder=model)) != ""


@pytest.mark.parametrize("compat", [False, True])
@pytest.mark.parametrize("name", TRAINED)
def test_the_card_tells_which_numbers_of_frames_are_taken(folder: Path, name: str, compat: bool) -> None:
    saved(folder, TRAINED[name])
    chat = loaded(model_file(folder, upstream_compat=compat))
    told = range(1, min(chat.card.max_frames, 3 * tiny.MAX_FRAMES) + 1)
    taken: list[int] = []
    for number in told:
        with contextlib.suppress(InvalidValueError):
            chat.encode(tiny.clips(1, number))
            taken.append(number)
    assert taken == [number for number in told if rounded_down(number, chat.card.even_above) == number]


@pytest.mark.parametrize("pooled", ["frames", "temporal_spatial", "patches"])
def test_a_pooling_named_in_the_model_file_serves_any_kind(folder: Path, pooled: str) -> None:
    model = saved(folder, TRAINED["separate_st"])
    chat = loaded(model_file(folder, pooling=pooled))
    pixels = tiny.pixels(B, T)
    expected = pooling(pooled).pool(model.chat(pixels))
    assert torch.equal(pooling(chat.card.pooling).pool(chat.encoder.chat(pixels)), expected)
    assert answer(chat)


def test_a_published_kind_keeps_the_published_names(folder: Path) -> None:
    saved(folder, TRAINED["bt_adapter"])
    names = load_file(folder / FILE)
    assert all(name.startswith(("backbone.btadapter_", "backbone.balance")) for name in names)


@pytest.mark.parametrize("name", ["stan", "separate_st", "concatenated"])
def test_other_kinds_are_under_our_own_names(folder: Path, name: str) -> None:
    saved(folder, CONFIGS[name])
    assert {key.split(".")[0] for key in load_file(folder / FILE)} == {"adapter"}


def test_an_open_models_file_holds_its_tower_and_a_frozen_ones_does_not(folder: Path) -> None:
    for name, parts in (("separate_st_open", {"adapter", "vision"}), ("separate_st", {"adapter"})):
        saved(folder, TRAINED[name])
        assert {key.split(".")[0] for key in load_file(folder / FILE)} == parts


def test_the_facts_name_kind_settings_and_tower(folder: Path) -> None:
    saved(folder, TRAINED["separate_st_2"])
    assert open_checkpoint(folder / FILE).metadata == {
        "kind": "separate_st", "is_open": False, "num_layers": 2, "max_frames": tiny.MAX_FRAMES,
        "bottleneck": tiny.BOTTLENECK, "time_std": 1.0, "family": "clip", "positions": tiny.P + 1,
        "blocks": tiny.VISION.num_layers,
    }  # fmt: skip
    assert open_checkpoint(folder / FILE).temporal == TRAINED["separate_st_2"]


def test_further_parts_and_facts_are_written_too(folder: Path) -> None:
    model = tiny.trained(TRAINED["bt_adapter"], load_tower(open_checkpoint(folder / "clip")))
    head = nn.Linear(2, 3)
    parts: Mapping[str, Mapping[str, torch.Tensor]] = {"extra_proj": {"0.weight": head.weight}}
    save_temporal(folder / FILE, model, parts=parts, metadata={"mask": "tube"})
    assert torch.equal(load_file(folder / FILE)["extra_proj.0.weight"], head.weight)
    assert open_checkpoint(folder / FILE).metadata["mask"] == "tube"


def test_frozen_clip_has_no_file(folder: Path) -> None:
    model = tiny.fresh(tiny.FROZEN["clip"], load_tower(open_checkpoint(folder / "clip")))
    with pytest.raises(InvalidValueError, match="kind is 'clip', not open; allowed"):
        save_temporal(folder / FILE, model)
    assert not (folder / FILE).exists()


def test_gates_in_the_model_file_overrule_those_in_the_adapters(folder: Path) -> None:
    model = saved(folder, TRAINED["bt_adapter"])
    pixels = tiny.pixels(B, T)
    summed = loaded(model_file(folder, gates=[None, None])).encoder
    scaled = loaded(model_file(folder, gates=[3.0, 3.0])).encoder
    for other, branch in (
        (summed, replace(ADAPTER, middle_scale=None, output_scale=None)),
        (scaled, replace(ADAPTER, middle_scale=3.0, output_scale=3.0)),
    ):
        twin = tiny.fresh(TemporalConfig("bt_adapter", branch), model.tower)
        twin.trainable()["adapter"].load_state_dict(model.trainable()["adapter"].state_dict(), strict=False)
        assert torch.equal(tiny.retrieve(other, pixels), tiny.retrieve(twin, pixels))


@pytest.mark.parametrize("name", ["bt_adapter", "added", "separate_st", "stan_open"])
def test_an_eva_models_file_is_served_as_it_was(folder: Path, tmp_path: Path, name: str) -> None:
    published.write_all(tmp_path)
    model = saved(folder, CONFIGS[name], tower="blip2/eva")
    chat = loaded(model_file(folder, "minigpt4"))
    model.skip = chat.encoder.skip  # the towers of these chat models end one layer earlier
    pixels = tiny.pixels(B, T)
    # a key bias moves all scores of a query alike, so the published layout leaves it out
    torch.testing.assert_close(
        frames_cls(chat.encoder.chat(pixels)), frames_cls(model.chat(pixels)), rtol=1e-4, atol=1e-4
    )


def test_kinds_and_settings_are_part_of_the_fingerprint(folder: Path) -> None:
    prints: set[str] = set()
    for name in ("separate_st", "separate_st_open", "st_adapter", "bt_adapter", "stan"):
        saved(folder, TRAINED[name])
        prints.add(loaded(model_file(folder)).card.fingerprint)
    assert len(prints) == 5


@pytest.mark.parametrize("name", ["separate_st", "separate_st_open", "stan"])
def test_the_memory_of_a_tower_of_its_own_is_told(folder: Path, name: str) -> None:
    saved(folder, TRAINED[name])
    path = model_file(folder)
    encoder = loaded(path).encoder
    held = sum(weight.nbytes for weight in encoder.state_dict().values())
    estimate = memory_estimate(str(path), Path("nowhere"), torch.float32)
    assert estimate.vision == pytest.approx(held, rel=0.05)


def test_models_are_listed_with_their_kind(folder: Path) -> None:
    saved(folder, TRAINED["joint_st_open"])
    model_file(folder)
    assert "  temporal   joint_st, open" in list(table(folder.parent))
    kinds = {model["name"]: model["temporal"] for model in describe_all(folder.parent)["models"]}
    assert kinds["saved"] == "joint_st, open"
    assert kinds["embedded"] == "bt_adapter"
    assert kinds["embedded-clip"] is None


def test_the_largest_count_is_allowed() -> None:
    assert parse_metadata("a", '{"max_frames": 65536}') == {"max_frames": 65536}
    with pytest.raises(CheckpointError, match="max_frames is 65537; allowed: 1 to 65536"):
        parse_metadata("a", '{"max_frames": 65537}')


def rewritten(path: Path, facts: str) -> None:
    save_file(load_file(path), path, metadata={KEY: facts})


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ("{", "is no JSON"),
        ("[1]", "allowed: a JSON object"),
        ('{"kind": "lstm"}', "kind is 'lstm'; allowed: clip, bt_adapter"),
        ('{"kind": "separate_st", "num_layers": 0}', "num_layers is 0; allowed: 1 to 65536"),
        ('{"kind": "stan", "combination": "mean"}', "combination is 'mean'; allowed: gate, add, concat"),
        ('{"kind": "stan", "num_layers": "four"}', "num_layers is 'four'; allowed: 1 to 65536"),
        ('{"kind": "stan", "num_layers": null}', "not supported"),
        ('{"kind": "separate_st", "num_layers": 2.5}', "num_layers is 2.5"),
        ('{"kind": "joint_st", "max_frames": 1000000000000}', "max_frames is 1000000000000"),
        ('{"kind": "st_adapter", "bottleneck": true}', "bottleneck is True"),
        ('{"kind": "joint_st", "time_std": NaN}', "time_std is nan; allowed: a number"),
        ('{"kind": "stan", "middle_scale": "1"}', "middle_scale is '1'"),
        ('{"kind": "joint_st", "is_open": "no"}', "is_open is 'no'; allowed: true, false"),
        ('{"kind": ["stan"]}', r"kind is \['stan'\]"),
        ('{"positions": 10}', "says positions or blocks; allowed: both"),
        ('{"positions": "10", "blocks": 5}', "positions is '10'"),
        ("[" * 100_000, "is no JSON"),
    ],
)
def test_facts_that_make_no_sense_refuse_to_load(folder: Path, facts: str, message: str) -> None:
    saved(folder, TRAINED["separate_st"])
    rewritten(folder / FILE, facts)
    with pytest.raises(CheckpointError, match=f"{FILE}: .*({message})"):
        loaded(model_file(folder))


@pytest.mark.parametrize("name", ["separate_st", "st_adapter", "stan", "joint_st_open", "bt_adapter_open"])
def test_a_missing_tensor_refuses_to_load(folder: Path, name: str) -> None:
    saved(folder, TRAINED[name])
    for key in ("adapter", "vision"):
        tensors = load_file(folder / FILE)
        lost = next((n for n in tensors if n.startswith((key, "backbone.layers"))), None)
        if lost is not None:
            del tensors[lost]
            header = dict(open_weights(folder / FILE).metadata)
            save_file(tensors, folder / "less.safetensors", metadata=header)
            with pytest.raises(CheckpointError, match="missing .*" + lost.rpartition(".")[2]):
                loaded(model_file(folder, adapter="less.safetensors"))


def test_another_tower_is_refused_for_an_open_model_by_its_embeddings(folder: Path) -> None:
    saved(folder, TRAINED["separate_st_open"])
    tensors = load_file(folder / "clip" / "model.safetensors")
    name = "vision_model.embeddings.class_embedding"
    save_file(tensors | {name: tensors[name] + 1}, folder / "clip" / "model.safetensors")
    with pytest.raises(CheckpointError, match="tower_weights: expected the tower inside temporal"):
        loaded(model_file(folder))


def test_a_model_that_the_chat_path_leaves_out_is_refused(folder: Path) -> None:
    saved(folder, replace(TRAINED["separate_st"], num_layers=1))
    with pytest.raises(CheckpointError, match=f"{FILE}: num_layers is 1; allowed for chat: more than the 1"):
        loaded(model_file(folder))


def test_a_file_without_a_kind_is_a_branch_as_published(folder: Path) -> None:
    model = saved(folder, TRAINED["bt_adapter"])
    rewritten(folder / FILE, json.dumps({"num_layers": tiny.K}))
    pixels = tiny.pixels(B, T)
    served = loaded(model_file(folder, gates=[1.0, 1.0])).encoder
    assert torch.equal(tiny.retrieve(served, pixels), tiny.retrieve(model, pixels))
    assert loaded(model_file(folder)).encoder.config.branch.middle_scale == 1e2
