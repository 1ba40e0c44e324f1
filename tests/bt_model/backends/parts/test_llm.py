"""The LLM of a chat model: configurations of every kind, and embeddings that come with a projector."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from bt_model.backends.base import BackendFiles
from bt_model.backends.parts.llm import load_llama, read_llama_config
from bt_model.backends.registry import factory
from bt_model.checkpoints.weights import open_checkpoint
from bt_model.errors import CheckpointError
from bt_model.generation.chunk import Chunk
from bt_model.generation.engine import BatchEngine
from bt_model.generation.language_model import compute
from bt_model.generation.request import Delta, GenRequest, Tokens
from bt_model.types import Turn, VideoTokens
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


PLAIN = {
    "vocab_size": 100, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
    "intermediate_size": 48, "max_position_embeddings": 64,
}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_attention_heads": 0}, "num_attention_heads is 0; allowed: 1 to"),
        ({"num_attention_heads": 5}, "num_attention_heads is 5; allowed: what divides hidden_size, 32"),
        ({"num_key_value_heads": 3}, "num_key_value_heads is 3; allowed: what divides num_attention_heads"),
        ({"num_key_value_heads": "4"}, "num_key_value_heads is '4'"),
        ({"hidden_size": "32"}, "hidden_size is '32'"),
        ({"hidden_size": 10**30}, "hidden_size is 10+; allowed: 1 to 1048576"),
        ({"vocab_size": -1}, "vocab_size is -1"),
        ({"max_position_embeddings": 2.5}, "max_position_embeddings is 2.5"),
        ({"num_hidden_layers": True}, "num_hidden_layers is True"),
        ({"rope_parameters": "x"}, "rope_parameters is 'x'; allowed: an object"),
        ({"rope_parameters": {"rope_theta": "x"}}, "rope_theta is 'x'; allowed: a number above 0"),
        ({"rope_theta": None}, "rope_theta is None"),
        ({"rms_norm_eps": float("nan")}, "rms_norm_eps is nan"),
        ({"text_config": None}, "text_config is None; allowed: an object"),
    ],
)
def test_sizes_that_are_none_are_refused_by_name(
    tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    assert read_llama_config(config(tmp_path, **PLAIN)).num_kv_heads == 4
    with pytest.raises(CheckpointError, match=rf"config\.json: {message}"):
        read_llama_config(config(tmp_path, **{**PLAIN, **changes}))


def test_more_layers_than_the_weights_hold_are_refused_before_any_is_built(
    tiny_weights: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(tiny_weights / "tiny" / "llava_video", tmp_path / "llava_video"))
    said = json.loads((folder / "config.json").read_text())
    config(folder, **(said | {"num_hidden_layers": 1_000_000}))
    with pytest.raises(
        CheckpointError,
        match=r"config\.json: num_hidden_layers is 1000000; allowed: up to 2, which its weights",
    ):
        load_llama(files(tmp_path))


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
    assert torch.equal(backend.lm.embed(torch.tensor([len(grown) - 1])), grown[-1:])


def test_embeddings_of_another_width_are_refused(video_chatgpt: tuple[BackendFiles, torch.Tensor]) -> None:
    given, grown = video_chatgpt
    given = with_table(given, grown[:, :7])
    with pytest.raises(CheckpointError, match=r"embed_tokens\.weight is .*; the LLM is 48 wide"):
        load_llama(given)


def test_embeddings_with_too_few_rows_are_refused(video_chatgpt: tuple[BackendFiles, torch.Tensor]) -> None:
    given, grown = video_chatgpt
    given = with_table(given, grown[:7])
    with pytest.raises(CheckpointError, match=r"embed_tokens\.weight has 7 rows; the LLM has \d+"):
        load_llama(given)


def with_table(given: BackendFiles, table: torch.Tensor) -> BackendFiles:
    """The same with another table of embeddings in the projector's file."""
    path = given.needed("projector").path
    save_file({**load_file(path), "model.embed_tokens.weight": table.clone()}, path)
    return replace(given, projector=open_checkpoint(path))


def with_image_markers(given: BackendFiles, folder: Path) -> BackendFiles:
    """The same, over a LLaVA whose tokenizer knows the markers of pictures alone."""
    llm = Path(shutil.copytree(given.needed("llm").path, folder / "llava"))
    text = (llm / "tokenizer.json").read_text()
    (llm / "tokenizer.json").write_text(
        text.replace("<vid_start>", "<im_start>").replace("<vid_end>", "<im_end>")
    )
    return replace(given, llm=open_checkpoint(llm))


def test_markers_that_were_trained_with_the_projector_stand_around_the_video(
    video_chatgpt: tuple[BackendFiles, torch.Tensor], tmp_path: Path
) -> None:
    given, grown = video_chatgpt
    backend = factory("video-chatgpt")(with_image_markers(given, tmp_path))
    video = VideoTokens(b"key", torch.randn(5, tiny.D))
    before, _, behind = backend.segments([Turn("user", "what is it?")], [video])
    assert isinstance(before, Tokens)
    assert isinstance(behind, Tokens)
    assert (before.ids[-1], behind.ids[0]) == (len(grown) - 2, len(grown) - 1)
    assert torch.equal(backend.lm.embed(torch.tensor([len(grown) - 2])), grown[-2:-1])


@pytest.mark.parametrize("rows", [0, 2])
def test_without_three_rows_more_the_markers_of_pictures_stand_there(
    video_chatgpt: tuple[BackendFiles, torch.Tensor], tmp_path: Path, rows: int
) -> None:
    given, grown = video_chatgpt
    pictures = with_image_markers(with_table(given, grown[: len(grown) - 3 + rows]), tmp_path)
    names = json.loads((pictures.needed("llm").path / "tokenizer.json").read_text())["added_tokens"]
    ids = {token["content"]: token["id"] for token in names}
    before, _, _ = factory("llava")(pictures).segments(
        [Turn("user", "what is it?")], [VideoTokens(b"key", torch.randn(5, tiny.D))]
    )
    assert isinstance(before, Tokens)
    assert before.ids[-1] == ids["<im_start>"]


def test_rows_that_only_a_prompt_has_are_never_spoken(
    video_chatgpt: tuple[BackendFiles, torch.Tensor], tmp_path: Path
) -> None:
    given, grown = video_chatgpt
    backend = factory("video-chatgpt")(with_image_markers(given, tmp_path))
    assert backend.lm.vocab_size == len(grown)
    embeds = backend.lm.embed(torch.tensor([len(grown) - 1, 5]))
    logits = compute(backend.lm.start(1), embeds, [Chunk((1,), 0, 2, is_prompt=True)])[0]
    assert logits.shape == (len(grown),)
    assert logits[:-3].isfinite().all()
    assert (logits[-3:] == -torch.inf).all()
    engine = BatchEngine(backend.lm, max_batch=1)
    engine.start()
    prompt = backend.segments([Turn("user", "q")], [VideoTokens(b"key", torch.randn(5, tiny.D))])
    request = GenRequest(
        "a", prompt, 8, frozenset(), temperature=2.0, top_p=0.9, repetition_penalty=1.5, logprobs=True
    )
    events = list(engine.submit(request).stream())
    engine.stop()
    said = [number for event in events if isinstance(event, Delta) for number in event.token_ids]
    assert len(said) == 8
    assert max(said) < len(grown) - 3
