"""The decoder against transformers and against itself."""

from dataclasses import replace

import pytest
import torch
from transformers import LlamaConfig as HfLlamaConfig
from transformers import LlamaForCausalLM

from bt_model.backends.parts.decoder_config import read_decoder_config
from bt_model.generation.language_model import LanguageModel
from bt_model.generation.llama import Llama
from tests.bt_model.generation.models import CONFIG, VOCAB, WIDTH, tiny, wake

B, N = 3, 17
TOLERANCE = 1e-5


@pytest.fixture
def lm() -> Llama:
    return tiny()


@pytest.fixture
def embeds() -> torch.Tensor:
    return torch.randn(B, N, WIDTH, generator=torch.Generator().manual_seed(1))


def hf_pair(*, kv_heads: int, tied: bool) -> tuple[Llama, LlamaForCausalLM]:
    hf_config = HfLlamaConfig(
        vocab_size=VOCAB,
        hidden_size=WIDTH,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=kv_heads,
        intermediate_size=48,
        max_position_embeddings=96,
        rms_norm_eps=1e-5,
        rope_parameters={"rope_type": "default", "rope_theta": 5000.0},
        tie_word_embeddings=tied,
    )
    ours = wake(Llama(read_decoder_config(hf_config.to_dict())))
    theirs = LlamaForCausalLM(hf_config).eval()
    result = theirs.load_state_dict(ours.state_dict(), strict=False)
    assert not result.unexpected_keys
    assert result.missing_keys == (["lm_head.weight"] if tied else [])
    return ours, theirs


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("kv_heads", [4, 2, 1])
def test_logits_equal_those_of_transformers(kv_heads: int, tied: bool, embeds: torch.Tensor) -> None:
    ours, theirs = hf_pair(kv_heads=kv_heads, tied=tied)
    with torch.no_grad():
        torch.testing.assert_close(
            ours(embeds), theirs(inputs_embeds=embeds).logits, atol=TOLERANCE, rtol=TOLERANCE
        )


def test_parameter_names_are_those_of_transformers() -> None:
    ours, theirs = hf_pair(kv_heads=2, tied=False)
    assert set(ours.state_dict()) == set(theirs.state_dict())


def test_llama_is_a_language_model(lm: Llama) -> None:
    contract: LanguageModel = lm
    assert (contract.vocab_size, contract.hidden_size, contract.max_context) == (VOCAB, WIDTH, 96)


def test_right_padding_does_not_change_logits(lm: Llama, embeds: torch.Tensor) -> None:
    mask = torch.ones(B, N, dtype=torch.bool)
    mask[1, 9:] = False
    torch.testing.assert_close(lm(embeds, mask)[1, :9], lm(embeds[1:2, :9])[0], atol=TOLERANCE, rtol=0)


def test_masked_positions_reach_no_other_position(lm: Llama, embeds: torch.Tensor) -> None:
    mask = torch.ones(B, N, dtype=torch.bool)
    mask[1, 9:] = False
    bumped = embeds.clone()
    bumped[1, 9] += 5
    moved = (lm(bumped, mask) - lm(embeds, mask)).abs().amax(-1)
    assert moved.nonzero().tolist() == [[1, 9]]


def test_forward_gives_gradients_to_every_parameter(embeds: torch.Tensor) -> None:
    lm = tiny()
    lm(embeds, torch.ones(B, N, dtype=torch.bool)).logsumexp(-1).mean().backward()
    embedding = "model.embed_tokens.weight"  # the prompt came as embeddings
    assert [n for n, p in lm.named_parameters() if p.grad is None] == [embedding]


def test_tied_model_has_one_vocabulary_table() -> None:
    tied = Llama(replace(CONFIG, tie_embeddings=True))
    assert [n for n, p in tied.named_parameters() if VOCAB in p.shape] == ["model.embed_tokens.weight"]
