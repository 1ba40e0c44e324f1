"""Greedy answers of LLMs through the engine beside transformers' `generate`: how many of 24 are equal.

python -m benchmarks.real_llm FOLDER. FOLDER gets SmolLM2-135M-Instruct (benchmarks.smollm), which answers
questions in its own chat template. The others are random models of the named type, which continue random
embeddings. Every answer has up to 64 tokens; ours are computed 16 at a time.
"""

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel
from transformers.utils import logging

from benchmarks.smollm import smollm_folder
from bt_model.backends.base import BackendFiles
from bt_model.backends.parts.llm import load_lm
from bt_model.checkpoints.weights import open_checkpoint
from bt_model.generation.engine import BatchEngine
from bt_model.generation.language_model import LanguageModel
from bt_model.generation.request import Delta, GenRequest, Segment, Soft, Tokens
from bt_model.prompt.jinja_template import JinjaTemplate
from bt_model.prompt.own_tokens import OwnTokens
from bt_model.prompt.segments import SpecialIds
from bt_model.prompt.tokenizer import open_tokenizer
from bt_model.types import GenerateOptions, Turn

COUNT, NEW_TOKENS, ROWS = 24, 64, 16
TOPICS = (
    "the capital of France", "how rain forms", "a poem about the sea", "prime numbers", "making tea",
    "why the sky is blue", "Newton's first law", "a haiku", "photosynthesis", "the Roman empire", "recursion",
    "a joke", "black holes", "sorting a list", "the heart", "jazz", "volcanoes", "democracy", "bread",
    "the moon", "friendship", "bicycles", "gravity", "whales",
)  # fmt: skip
_SIZES: dict[str, Any] = {
    "vocab_size": 2000, "hidden_size": 256, "num_hidden_layers": 6, "num_attention_heads": 8,
    "num_key_value_heads": 2, "intermediate_size": 512, "max_position_embeddings": 1024,
    "bos_token_id": None, "eos_token_id": None, "pad_token_id": 0, "initializer_range": 0.2,
}  # fmt: skip
_LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 5e5, "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 256,
}  # fmt: skip
RANDOM: dict[str, tuple[str, dict[str, Any]]] = {
    "Qwen2": ("qwen2", {}),
    "Llama-3.2-like": (
        "llama",
        {"rope_parameters": _LLAMA3, "head_dim": 64, "tie_word_embeddings": True},
    ),
    "Mistral, window 512": ("mistral", {"sliding_window": 512}),
    "Qwen3": ("qwen3", {"head_dim": 32}),
    "Gemma 2, window 48": ("gemma2", {"head_dim": 32, "sliding_window": 48}),
}


def main(folder: Path) -> None:
    """Print one line for each LLM."""
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    _report("SmolLM2-135M-Instruct", *_smollm(smollm_folder(folder)))
    for name, (kind, changes) in RANDOM.items():
        with tempfile.TemporaryDirectory(prefix="btchat-llm-") as work:
            torch.manual_seed(0)
            config = AutoConfig.for_model(kind, **{**_SIZES, **changes})
            model = AutoModelForCausalLM.from_config(config).eval()
            model.save_pretrained(work)
            lm = load_lm(_files(Path(work)))
            _report(name, lm, *_random(lm, model))


def _report(
    name: str, lm: LanguageModel, ours: Sequence[Sequence[int]], theirs: Sequence[Sequence[int]]
) -> None:
    equal = sum(list(a) == list(b) for a, b in zip(ours, theirs, strict=True))
    tokens = sum(map(len, theirs))
    print(f"{name}: decoder {lm.decoder}, {equal} of {len(theirs)} answers equal, {tokens} tokens")


def _smollm(folder: Path) -> tuple[LanguageModel, list[list[int]], list[list[int]]]:
    tokenizer, own = open_tokenizer(folder), OwnTokens.of(folder)
    assert own.chat_template is not None
    style = JinjaTemplate(own.chat_template, {}, tokenizer.specials)
    stops = SpecialIds.of(style, tokenizer, own)
    asked = [f"Tell me something about {topic}." for topic in TOPICS]
    prompts = [style.segments([Turn("user", text)], tokenizer.encode, []) for text in asked]
    lm = load_lm(_files(folder))
    ours = _answers(lm, prompts, frozenset({stops.eos, *stops.stops}))
    reference: Any = AutoTokenizer.from_pretrained(folder)
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    theirs: list[list[int]] = []
    for text, prompt in zip(asked, prompts, strict=True):
        message = [{"role": "user", "content": text}]
        spelt = reference.apply_chat_template(message, add_generation_prompt=True, return_tensors="pt")
        ids = spelt["input_ids"]
        assert [Tokens(tuple(ids[0].tolist()))] == list(prompt), "the prompt is not transformers'"
        said = model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=NEW_TOKENS, do_sample=False
        )
        new = said[0, ids.shape[1] :].tolist()
        theirs.append(new[:-1] if new[-1] == stops.eos else new)
    return lm, ours, theirs


def _random(lm: LanguageModel, model: PreTrainedModel) -> tuple[list[list[int]], list[list[int]]]:
    generator = torch.Generator().manual_seed(1)
    embeds = [torch.randn(20 + 9 * i, lm.hidden_size, generator=generator) for i in range(COUNT)]
    ours = _answers(lm, [(Soft(bytes([i]), each),) for i, each in enumerate(embeds)], frozenset())
    generate: Any = model.generate
    return ours, [
        generate(
            inputs_embeds=each[None], attention_mask=torch.ones(1, len(each), dtype=torch.int64),
            max_new_tokens=NEW_TOKENS, do_sample=False,
        )[0].tolist()
        for each in embeds
    ]  # fmt: skip


def _answers(
    lm: LanguageModel, prompts: Sequence[tuple[Segment, ...]], stops: frozenset[int]
) -> list[list[int]]:
    engine = BatchEngine(lm, max_batch=ROWS, max_context=1024)
    engine.start()
    requests = [GenRequest(str(i), prompt, NEW_TOKENS, stops) for i, prompt in enumerate(prompts)]
    events = [list(handle.stream()) for handle in [engine.submit(request) for request in requests]]
    engine.stop()
    return [[i for event in each if isinstance(event, Delta) for i in event.token_ids] for each in events]


def _files(folder: Path) -> BackendFiles:
    llm = open_checkpoint(folder)
    return BackendFiles(
        llm=llm, projector=llm, template="checkpoint", num_video_tokens=1, video_dim=8,
        defaults=GenerateOptions(), device=torch.device("cpu"), dtype=torch.float32,
    )  # fmt: skip


if __name__ == "__main__":
    main(Path(sys.argv[1]))
