"""The loads: prompts of a kind, and the folder of the model that they are for."""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer

from benchmarks.serving.prompts import Batch, Load, Prompt
from bt_model.config import LlamaConfig
from bt_model.generation.llama import Llama
from bt_model.generation.request import Soft, Tokens

ROWS, NEW_TOKENS = 16, 64
SYSTEM, VIDEO, QUESTION = 20, 256, 24  # tokens of the standard load's prompts
STANDARD = LlamaConfig(8000, 512, 8, 8, 8, 1376, 2048)
_STD = 0.02
_THINGS = (
    "a river", "a clock", "a city at night", "the sea", "a small dog", "an old tree", "a train", "bread",
    "a mountain", "the moon", "a garden", "a violin", "rain", "a bridge", "honey", "a lighthouse",
)  # fmt: skip
_ASKED = (
    "Please tell me in a few plain sentences what people like about {} and why that is so.",
    "Write a short letter to a friend in which you describe {} as exactly as you can.",
    "What would a child of five years ask about {}, and what would you answer?",
    "Give three facts about {} that are easy to remember, and explain the last one.",
    "How would the world look like without {}? Begin with what would change first.",
)


def write_standard_model(folder: Path) -> None:
    """A random decoder in the format of transformers."""
    torch.manual_seed(0)
    save_file(dict(Llama(STANDARD).state_dict()), folder / "model.safetensors", {"format": "pt"})
    config = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "dtype": "float32",
        "vocab_size": STANDARD.vocab_size, "hidden_size": STANDARD.width,
        "num_hidden_layers": STANDARD.num_layers, "num_attention_heads": STANDARD.num_heads,
        "num_key_value_heads": STANDARD.num_kv_heads, "intermediate_size": STANDARD.mlp_width,
        "max_position_embeddings": STANDARD.max_context, "rms_norm_eps": STANDARD.eps,
        "tie_word_embeddings": False, "rope_theta": STANDARD.rope_theta, "eos_token_id": None,
        "bos_token_id": None, "hidden_act": "silu",
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")


def standard(num_rounds: int) -> Load:
    """16 prompts of 300 tokens, 256 of them a video's; then another question about each video."""
    batches = [
        Batch(tuple(_about_video(number, video, warm) for video in range(ROWS)), number, bool(warm))
        for number in range(num_rounds)
        for warm in (0, 1)
    ]
    return Load(tuple(batches), NEW_TOKENS)


def _about_video(number: int, video: int, question: int) -> Prompt:
    seed = number * ROWS + video
    generator = torch.Generator().manual_seed(seed)
    embeds = torch.randn(VIDEO, STANDARD.width, generator=generator) * _STD
    system = tuple((7 * seed + i) % STANDARD.vocab_size for i in range(SYSTEM))
    asked = tuple((13 * seed + 17 * question + i) % STANDARD.vocab_size for i in range(QUESTION))
    return Prompt((Tokens(system), Soft(seed.to_bytes(4, "big"), embeds), Tokens(asked)))


def real(num_rounds: int, model: Path) -> Load:
    """16 questions in ChatML, with no system text that they would share; then the same again."""
    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))

    def prompt(number: int, thing: str) -> Prompt:
        text = f"{number}. {_ASKED[number % len(_ASKED)].format(thing)}"
        chat = f"<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n"
        return Prompt((Tokens(tuple(tokenizer.encode(chat, add_special_tokens=False).ids)),))

    batches = [
        Batch(tuple(prompt(number, thing) for thing in _THINGS), number, is_warm)
        for number in range(num_rounds)
        for is_warm in (False, True)
    ]
    return Load(tuple(batches), NEW_TOKENS)
