"""LLMs that transformers computes: its own tokens whatever runs beside, and what is refused."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, PreTrainedModel

from bt_model.backends.parts import transformers_llm
from bt_model.backends.parts.llm import load_lm, read_cache_sizes
from bt_model.errors import BtchatError, CheckpointError
from bt_model.generation.chunk import PAGE, Chunk
from bt_model.generation.engine import BatchEngine
from bt_model.generation.kv_cache import page_bytes
from bt_model.generation.language_model import LanguageModel, compute
from bt_model.generation.transformers_model import TransformersModel
from tests.bt_model.backends.parts import decoders
from tests.bt_model.generation.engines import run_all
from tests.bt_model.generation.models import finish_of, request, soft, tokens_of

LENGTHS = (10, 150, 61, 130)
NEW = 12


@pytest.fixture(scope="module", params=list(decoders.THEIRS))
def pair(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[LanguageModel, PreTrainedModel]:
    folder = tmp_path_factory.mktemp("decoder")
    theirs = decoders.save(decoders.THEIRS[request.param](), folder)
    return load_lm(decoders.files(folder)), theirs


@pytest.fixture(scope="module")
def qwen3(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("qwen3")
    decoders.save(decoders.THEIRS["qwen3"](), folder)
    return folder


def test_greedy_tokens_equal_generate_alone_among_others_and_after_preemption(
    pair: tuple[LanguageModel, PreTrainedModel],
) -> None:
    ours, theirs = pair
    expected = [decoders.generated(theirs, soft(n, n).embeds, NEW) for n in LENGTHS]
    for num_pages in (8, 3):  # three: too few for all
        engine = BatchEngine(ours, max_batch=4, num_pages=num_pages)
        engine.start()
        for _ in range(2):  # pages change hands
            events = run_all(engine, [request([soft(n, n)], NEW) for n in LENGTHS])
            assert [list(tokens_of(each)) for each in events] == expected
            assert [finish_of(each).num_cached for each in events] == [0] * 4
        engine.stop()


def test_it_says_who_computes_it_and_what_a_page_takes(qwen3: Path) -> None:
    lm = load_lm(decoders.files(qwen3))
    assert (lm.decoder, lm.shares_prefixes, lm.max_context) == ("transformers", False, 256)
    assert (lm.vocab_size, lm.hidden_size) == (61, 32)
    assert lm.page_bytes == page_bytes(read_cache_sizes(qwen3), 4) == 2 * 2 * 2 * 8 * PAGE * 4


def test_a_sequence_that_lost_its_cache_is_an_error_and_a_repeated_step_is_not(qwen3: Path) -> None:
    runner = load_lm(decoders.files(qwen3)).start(4)
    embeds = soft(20, 1).embeds
    compute(runner, embeds[:10], [Chunk((1,), 0, 10, is_prompt=True, is_last=False)])
    second = Chunk((1,), 10, 10, is_prompt=True)
    logits = compute(runner, embeds[10:], [second])
    assert torch.equal(compute(runner, embeds[10:], [second]), logits)
    runner.clear(1)
    with pytest.raises(RuntimeError, match="goes on at 10, but what was before is gone"):
        compute(runner, embeds[10:], [second])


def test_a_page_in_new_hands_ends_the_sequence_before(qwen3: Path) -> None:
    runner = load_lm(decoders.files(qwen3)).start(4)
    embeds = soft(20, 1).embeds
    compute(runner, embeds, [Chunk((1, 2), 0, 20, is_prompt=True)])
    compute(runner, embeds, [Chunk((3, 2), 0, 20, is_prompt=True)])
    with pytest.raises(RuntimeError, match="goes on at 20"):
        compute(runner, embeds[:1], [Chunk((1, 4), 20, 1, is_prompt=False)])


def changed(folder: Path, target: Path, **values: object) -> Path:
    target.mkdir()
    (target / "model.safetensors").symlink_to(folder / "model.safetensors")
    said = json.loads((folder / "config.json").read_text())
    (target / "config.json").write_text(json.dumps(said | values))
    return target


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"model_type": "unheard_of"}, "unheard_of'; allowed: llama, .*; transformers cannot run it: Val"),
        ({"model_type": "gemma2"}, "missing .*pre_feedforward_layernorm"),
        ({"num_hidden_layers": 9}, "num_hidden_layers is 9; allowed: up to 2"),
        ({"intermediate_size": 64}, r"wrong shape .*mlp\.down_proj\.weight"),
        ({"max_position_embeddings": 0}, "max_position_embeddings is 0; allowed: 1 to"),
        ({"text_config": {"model_type": "qwen3"}}, "model_type is 'qwen3'; allowed: llama, .*; transformers"),
    ],
)
def test_what_neither_computes_is_refused(
    qwen3: Path, tmp_path: Path, values: dict[str, object], message: str
) -> None:
    with pytest.raises(CheckpointError, match=message):
        load_lm(decoders.files(changed(qwen3, tmp_path / "changed", **values)))


def test_a_missing_tensor_is_not_drawn_at_random(qwen3: Path, tmp_path: Path) -> None:
    folder = changed(qwen3, tmp_path / "changed")
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.layers.1.self_attn.q_norm.weight"]
    (folder / "model.safetensors").unlink()
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(CheckpointError, match=r"missing model\.layers\.1\.self_attn\.q_norm\.weight for"):
        load_lm(decoders.files(folder))


def test_flash_attention_is_asked_for_where_it_is_and_done_without_where_it_does_not_fit(
    qwen3: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked = list[str | None]()
    original = AutoModelForCausalLM.from_pretrained

    def load(*arguments: Any, attn_implementation: str | None = None, **options: Any) -> Any:
        asked.append(attn_implementation)
        if attn_implementation:
            raise ValueError("this model does not know it")
        return original(*arguments, **options)

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", load)
    monkeypatch.setattr(transformers_llm, "has_flash_attention", lambda *_: True)
    assert load_lm(decoders.files(qwen3)).decoder == "transformers"
    assert asked == ["flash_attention_2", None]
    assert "without FlashAttention" in caplog.text


@pytest.mark.parametrize(
    ("device", "dtype", "is_here", "expected"),
    [
        ("cuda", torch.bfloat16, True, True),
        ("cuda", torch.float32, True, False),
        ("cpu", torch.bfloat16, True, False),
        ("cuda", torch.float16, False, False),
    ],
)
def test_flash_attention_computes_half_precision_on_a_gpu(
    device: str, dtype: torch.dtype, is_here: bool, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transformers_llm, "is_flash_attn_2_available", lambda: is_here)
    assert transformers_llm.has_flash_attention(torch.device(device), dtype) is expected


def test_it_is_not_quantised(qwen3: Path) -> None:
    with pytest.raises(BtchatError, match="quantise is 'nf4'; allowed: none with an LLM that"):
        load_lm(replace(decoders.files(qwen3), quantise="nf4"))


def test_a_model_whose_cache_is_not_used_is_refused(qwen3: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lm = load_lm(decoders.files(qwen3))
    assert isinstance(lm, TransformersModel)
    model = vars(lm)["_model"]
    forward = model.forward
    monkeypatch.setattr(model, "forward", lambda past_key_values, **rest: forward(**rest))
    with pytest.raises(CheckpointError, match="Qwen3ForCausalLM: steps from embeddings differ from one pass"):
        TransformersModel(model, 256)
