"""What training writes is what serving reads."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import nn
from transformers import CLIPModel

from bt_model.assembly.load import load
from bt_model.backends.parts.template_backend import TemplateBackend
from bt_model.chat import VideoChat
from bt_model.checkpoints.load import load_part, read_adapter
from bt_model.checkpoints.weights import open_checkpoint
from bt_model.config import ClipTextConfig
from bt_model.generation.llama import Llama
from bt_model.text.clip_text import ClipTextTower
from bt_model.text.clip_tokenizer import ClipTokenizer
from bt_model.training.objectives.answers import answer_logits
from bt_model.types import Turn
from bt_model.video.decode import probe
from bt_model.vision.bt_adapter import BTAdapter
from bt_model.vision.pool import patches_cls
from lab.chat_model import ChatModel
from lab.dialogues import dialogue
from lab.model import EmbeddedModel
from tests import tiny
from tests.bt_model.training.data.test_tokens import ASKED

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Written:
    """A model folder and the parts that it was written from."""

    folder: Path
    model: EmbeddedModel


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    weights = tmp_path_factory.mktemp("weights")
    model = tiny.write_model_folder(weights, with_adapters=True)
    return Written(weights / "tiny", model)


def loaded(written: Written, name: str) -> VideoChat:
    return load(name, written.folder.parent, device="cpu")


def parts_of(model: EmbeddedModel, name: str) -> tuple[BTAdapter | None, ChatModel]:
    """The branch and chat model that a variant stands for."""
    return {
        "embedded": (model.tuned, model.video),
        "embedded-clip": (None, model.baseline),
        "embedded-zeroshot": (model.pretrained, model.image),
    }[name]


@pytest.mark.parametrize("name", ["embedded", "embedded-clip", "embedded-zeroshot"])
def test_a_loaded_model_gives_the_trained_features(written: Written, name: str) -> None:
    chat, pixels = loaded(written, name), tiny.pixels(2, 4)
    adapter, _ = parts_of(written.model, name)
    expected, found = written.model.encoder(adapter).chat(pixels), chat.encoder.chat(pixels)
    assert torch.equal(patches_cls(found), patches_cls(expected))


@pytest.mark.parametrize("name", ["embedded", "embedded-clip", "embedded-zeroshot"])
def test_a_loaded_model_gives_the_trained_logits(written: Written, name: str) -> None:
    chat, model = loaded(written, name), written.model
    backend = chat.backend
    assert isinstance(backend, TemplateBackend)
    assert isinstance(backend.lm, Llama)
    adapter, trained = parts_of(model, name)
    features = patches_cls(model.encoder(adapter).chat(tiny.pixels(1, 4)))
    batch = model.speller.batch([dialogue(ASKED)], model.num_video)
    expected = answer_logits(trained.lm, trained.projector, features, batch)
    assert torch.equal(answer_logits(backend.lm, backend.bridge.projector, features, batch), expected)


def test_a_loaded_tokenizer_spells_the_training_prompts(written: Written) -> None:
    backend = loaded(written, "embedded").backend
    assert isinstance(backend, TemplateBackend)
    assert backend.ids == written.model.speller.ids
    text = "USER: which way? 🎬"
    assert backend.tokenizer.encode(text).ids == written.model.speller.encode(text).ids
    assert backend.segments([Turn("user", "q")], [])


def test_the_clip_folder_is_read_by_transformers(written: Written) -> None:
    theirs = CLIPModel.from_pretrained(written.folder / "clip").eval()
    pixels = tiny.pixels(1, 1)[0]
    with torch.no_grad():
        states = theirs.vision_model(pixels, output_hidden_states=True).hidden_states
    assert states is not None
    (ours,) = written.model.tower(pixels, [5])
    torch.testing.assert_close(ours, states[-1], rtol=1e-4, atol=1e-4)


def test_the_text_tower_comes_back(written: Written) -> None:
    config = json.loads((written.folder / "clip" / "config.json").read_text())
    text = ClipTextTower(
        ClipTextConfig.from_hf({**config["text_config"], "projection_dim": config["projection_dim"]})
    )
    load_part(text, open_checkpoint(written.folder / "clip"), "text")
    ids = ClipTokenizer.from_file(written.folder / "clip" / "tokenizer.json")(["a red circle", "left"], 16)
    assert torch.equal(text(ids), written.model.text.tower(ids))


def test_the_pretrained_branch_file_holds_the_alignment_head(written: Written) -> None:
    head = nn.Sequential(
        nn.Linear(tiny.D, tiny.VISION.projection_dim), nn.LayerNorm(tiny.VISION.projection_dim)
    )
    load_part(head, open_checkpoint(written.folder / "bt_adapter.safetensors"), "extra_proj")
    x = torch.randn(3, tiny.D)
    assert torch.equal(head(x), written.model.head(x))


def test_branch_files_are_in_the_published_layout(written: Written) -> None:
    with safe_open(written.folder / "bt_adapter_tuned.safetensors", framework="pt") as file:
        names = set(file.keys())
        assert file.get_slice("backbone.btadapter_cls_token").get_shape() == [1, 1, tiny.D]
    assert "backbone.btadapter_T_layers.0.temporal_fc.weight" in names
    assert all(name.startswith("backbone.") for name in names)


def test_branch_files_say_what_their_tensors_do_not(written: Written) -> None:
    for name in ("bt_adapter.safetensors", "bt_adapter_tuned.safetensors"):
        with safe_open(written.folder / name, framework="pt") as file:
            facts = json.loads(file.metadata()["bt_adapter"])
        assert (facts["middle_scale"], facts["output_scale"], facts["mask"]) == (1.0, 1.0, "tube")
        assert (
            facts["num_layers"]
            == read_adapter(open_checkpoint(written.folder / name)).config.num_layers
            == tiny.K
        )


def test_no_unfinished_file_stays(written: Written) -> None:
    assert not [path for path in written.folder.rglob("*") if path.name.startswith(".")]


def test_the_sample_clip_is_a_video(written: Written) -> None:
    assert probe(written.folder / "sample.mp4").num_frames == 64


def test_the_notice_says_what_the_model_is(written: Written) -> None:
    for name in ("embedded", "embedded-clip", "embedded-zeroshot"):
        assert "Trained by this project on its own drawn clips" in loaded(written, name).card.notice


def test_the_model_files_in_the_repository_are_those_that_training_writes(written: Written) -> None:
    for path in (ROOT / "weights" / "embedded").glob("*.model.json"):
        ours, kept = (
            json.loads((folder / path.name).read_text()) for folder in (written.folder, path.parent)
        )
        assert ours | {"default_frames": 8} == kept


def test_sampling_defaults_to_the_plans_frames(written: Written) -> None:
    assert loaded(written, "embedded").card.default_frames == written.model.plan.num_frames
