"""Byte-level BPE tokenizers learnt from the corpus's own texts, in the files that serving reads."""

from collections.abc import Iterable
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

CHAT_SPECIALS = ("<unk>", "<s>", "</s>", "<vid_patch>", "<vid_start>", "<vid_end>")
CLIP_SPECIALS = ("<|startoftext|>", "<|endoftext|>")


def train_tokenizer(
    texts: Iterable[str], vocab_size: int, specials: tuple[str, ...], path: Path, *, lower_case: bool
) -> int:
    """Learn merges from `texts` and write a tokenizer.json; the number of ids.

    Special tokens get the largest ids: CLIP pools its text at the largest one. Any text can be encoded.
    """
    tokenizer = Tokenizer(models.BPE())
    if lower_case:
        tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=lower_case)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - len(specials),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_special_tokens(list(specials))
    tokenizer.save(str(path))
    return tokenizer.get_vocab_size()
