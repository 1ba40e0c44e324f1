"""The Q-Former and the tower before it, against the library's on random weights."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import Blip2QFormerConfig, Blip2QFormerModel, InstructBlipForConditionalGeneration

from bt_model.assembly.placement import Placement
from bt_model.assembly.towers import TowerCache, load_tower
from bt_model.backends.base import BackendFiles
from bt_model.backends.parts.bridge import load_bridge, qformer_config
from bt_model.backends.parts.qformer import QFormer
from bt_model.checkpoints.load import load_part
from bt_model.checkpoints.weights import open_checkpoint
from bt_model.errors import CheckpointError, UnknownNameError
from bt_model.types import GenerateOptions
from tests import published, tiny

B, N = 2, 10


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    weights = tmp_path_factory.mktemp("weights")
    published.write_hf_instructblip(weights / "hf")
    published.write_original_files(weights / "blip2", weights / "hf", with_text=False)
    return weights


@pytest.fixture(scope="module")
def theirs(folder: Path) -> InstructBlipForConditionalGeneration:
    return InstructBlipForConditionalGeneration.from_pretrained(folder / "hf").eval()


def ours(source: Path) -> QFormer:
    qformer = QFormer(qformer_config(open_checkpoint(source)))
    load_part(qformer, open_checkpoint(source), "qformer")
    return qformer.eval()


def features(seed: int = 0) -> Tensor:
    return torch.randn(B, N, published.WIDTH, generator=torch.Generator().manual_seed(seed))


def close(mine: Tensor, their: Tensor) -> None:
    assert (mine - their).abs().max() <= 1e-5 * max(1.0, float(their.abs().max()))


@torch.no_grad()
def test_it_equals_instructblips_with_text(
    folder: Path, theirs: InstructBlipForConditionalGeneration
) -> None:
    text = torch.tensor([[2, 7, 8, 9, 3], [2, 10, 3, 5, 6]])
    seen = theirs.vision_model.post_layernorm(features())
    queries = theirs.query_tokens.expand(B, -1, -1)
    expected = theirs.qformer(
        input_ids=text, query_embeds=queries, encoder_hidden_states=seen
    ).last_hidden_state[:, : published.QUERIES]
    close(ours(folder / "hf")(features(), text), expected)


@torch.no_grad()
def test_the_text_matters_and_one_text_serves_all_clips(folder: Path) -> None:
    qformer = ours(folder / "hf")
    text, other = torch.tensor([[2, 10, 3]]), torch.tensor([[2, 11, 3]])
    assert (qformer(features(), other) - qformer(features(), text)).abs().amax(dim=(1, 2)).min() > 3e-5
    close(qformer(features(), text), qformer(features(), text.expand(B, -1)))


@torch.no_grad()
def test_without_text_it_equals_blip2s(folder: Path) -> None:
    config = Blip2QFormerConfig(
        hidden_size=published.QWIDTH, num_hidden_layers=published.QLAYERS, num_attention_heads=2,
        intermediate_size=24, encoder_hidden_size=published.WIDTH,
    )  # fmt: skip
    model = tiny.wake(Blip2QFormerModel(config))
    source = {f"qformer.{name}": tensor for name, tensor in model.state_dict().items()}
    queries = torch.randn(1, published.QUERIES, published.QWIDTH)
    norm = {
        "vision_model.post_layernorm.weight": torch.ones(32),
        "vision_model.post_layernorm.bias": torch.zeros(32),
    }
    sizes = qformer_config(open_checkpoint(folder / "blip2" / "qformer.safetensors"))
    qformer = QFormer(replace(sizes, num_heads=2))
    load_part(qformer, open_checkpoint({**source, **norm, "query_tokens": queries}), "qformer")
    seen = qformer.ln_vision(features())
    expected = model(query_embeds=queries.expand(B, -1, -1), encoder_hidden_states=seen).last_hidden_state
    close(qformer(features()), expected)


@torch.no_grad()
def test_the_eva_tower_equals_instructblips_at_every_layer(
    folder: Path, theirs: InstructBlipForConditionalGeneration
) -> None:
    pixels = tiny.pixels(1, 3)[0]
    expected = theirs.vision_model(pixels, output_hidden_states=True).hidden_states[1:]
    tower = load_tower(open_checkpoint(folder / "hf"))
    assert tower.config.family == "eva"
    for mine, their in zip(tower(pixels, range(1, published.LAYERS + 1)), expected, strict=True):
        close(mine, their)


@torch.no_grad()
def test_the_original_tower_of_one_block_more_gives_the_same(folder: Path) -> None:
    pixels = tiny.pixels(1, 2)[0]
    last = range(published.LAYERS - 1, published.LAYERS)
    shelf, place = TowerCache(), Placement.pick("cpu")
    original, library = (shelf.tower(open_checkpoint(folder / name), place) for name in ("blip2/eva", "hf"))
    # the library stores a bias of the keys, which no attention can tell
    close(original(pixels, last)[0], library(pixels, last)[0])
    assert shelf.tower(open_checkpoint(folder / "hf"), place) is library


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"qformer_config": None}, "qformer_config is None; allowed: an object"),
        ({"qformer_config": {"num_attention_heads": 0}}, "num_attention_heads is 0"),
        (
            {"qformer_config": {"num_attention_heads": 3}},
            "num_attention_heads is 3; allowed: what divides 16",
        ),
        ({"qformer_config": {"num_attention_heads": 2.0}}, "num_attention_heads is 2.0"),
        ({"qformer_config": {"layer_norm_eps": "small"}}, "layer_norm_eps is 'small'"),
        ({"vision_config": []}, r"vision_config is \[\]; allowed: an object"),
        ({"vision_config": {"layer_norm_eps": 0}}, "video_eps is 0"),
    ],
)
def test_a_qformer_config_that_is_none_is_refused(
    folder: Path, tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    config = json.loads((folder / "hf" / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | changes))
    shutil.copyfile(folder / "hf" / "model.safetensors", tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=message):
        qformer_config(open_checkpoint(tmp_path))


def test_the_norm_before_it_has_the_epsilon_of_its_origin(folder: Path) -> None:
    original, library = (ours(folder / name) for name in ("blip2/qformer.safetensors", "hf"))
    assert (original.ln_vision.eps, library.ln_vision.eps) == (1e-5, 1e-6)


def files(folder: Path, qformer: str | None, entry: str = "clip") -> BackendFiles:
    hf = open_checkpoint(folder / "hf")
    held = None if qformer is None else open_checkpoint(folder / qformer)
    return BackendFiles(
        llm=hf, projector=hf, template="minigpt4", num_video_tokens=N,
        video_dim=published.WIDTH, defaults=GenerateOptions(), device=torch.device("cpu"),
        dtype=torch.float32, qformer=held, entry=entry,
    )  # fmt: skip


def test_a_model_without_a_qformer_is_refused(folder: Path) -> None:
    with pytest.raises(CheckpointError, match="names no qformer"):
        load_bridge(files(folder, None), published.LLM_WIDTH)


def test_a_file_without_a_qformer_is_refused(folder: Path) -> None:
    with pytest.raises(CheckpointError, match=r"missing query_tokens, ln_vision\.weight"):
        load_bridge(files(folder, "blip2/vicuna"), published.LLM_WIDTH)


def test_an_unknown_entry_is_refused(folder: Path) -> None:
    with pytest.raises(UnknownNameError, match="entry is 'D'; allowed: clip, frames, all_frames, joint"):
        load_bridge(files(folder, "hf", "D"), published.LLM_WIDTH)
