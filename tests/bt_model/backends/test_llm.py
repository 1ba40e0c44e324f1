"""The LLM of a chat model: configurations of every kind, and embeddings that come with a projector."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from bt_model.backends.files import BackendFiles
from bt_model.backends.llm import load_llama, read_llama_config
from bt_model.backends.registry import factory
from bt_model.errors import CheckpointError
from tests import tiny
from tests.bt_model.backends.folders import files


def config(folder: Path, **values: object) -> Path:
    (folder / "config.json").write_text(json.dumps(values))
    return folder


def test_a_nested_config_takes_the_librarys_defaults(tmp_path: Path) -> None:
    read = read_llama_config(
        config(tmp_path, text_config={"vocab_size": 32064, "max_position_embeddings": 4096})
    )
    assert (read.width, read.num_layers, read.num_heads, read.mlp_width) == (4096, 32, 32, 11008)
    assert (read.vocab_size, read.max_context, read.eps) == (32064, 4096, 1e-6)


def test_a_flat_config_must_say_everything(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="lacks the field 'hidden_size'"):
        read_llama_config(config(tmp_path, vocab_size=3))


def test_what_the_decoder_does_not_compute_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"config\.json: hidden_act is 'relu'; allowed: 'silu'"):
        read_llama_config(config(tmp_path, text_config={"hidden_act": "relu"}))


@pytest.fixture
def video_chatgpt(tiny_weights: Path, tmp_path: Path) -> tuple[BackendFiles, torch.Tensor]:
    """Video-ChatGPT's own file: a table with three rows more, and the projector trained with it."""
    folder = tiny_weights / "tiny"
    named = load_file(folder / "llava_video" / "model.safetensors")
    table = named["model.embed_tokens.weight"]
    grown = torch.cat([table + 1, torch.ones(3, table.shape[1])])
    projector = {name: tensor for name, tensor in named.items() if "mm_projector" in name}
    path = tmp_path / "video_chatgpt.safetensors"
    save_file({"model.embed_tokens.weight": grown, **projector}, path)
    return files(folder, projector=path), grown


def test_embeddings_that_come_with_a_projector_replace_the_llms(
    video_chatgpt: tuple[BackendFiles, torch.Tensor],
) -> None:
    given, grown = video_chatgpt
    assert torch.equal(load_llama(given).model.embed_tokens.weight, grown)
    backend = factory("video-chatgpt")(replace(given, num_video_tokens=100 + tiny.P))
    assert backend.name == "video-chatgpt"
    assert torch.equal(backend.lm.embed(torch.tensor([len(grown) - 1])), grown[-1:])


def test_embeddings_of_another_width_are_refused(video_chatgpt: tuple[BackendFiles, torch.Tensor]) -> None:
    given, grown = video_chatgpt
    save_file(
        {**load_file(given.projector), "model.embed_tokens.weight": grown[:, :7].clone()}, given.projector
    )
    with pytest.raises(CheckpointError, match=r"embed_tokens\.weight is .*; the LLM is 48 wide"):
        load_llama(given)
