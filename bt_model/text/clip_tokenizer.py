"""CLIP's byte-pair tokenizer, or any tokenizer file that has CLIP's start and end markers.

B texts, n token positions.
"""

import gzip
import html
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

from bt_model.errors import CheckpointError, require

START = "<|startoftext|>"
END = "<|endoftext|>"

_WORD_END = "</w>"
_NUM_MERGES = 48894  # of OpenAI's longer list; 2 * 256 bytes and 2 markers make it 49408 ids
_UPSTREAM_LENGTH = 77
_MIN_LENGTH = 2  # the two markers
_PIECES = r"'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+"
_STRAIGHT_QUOTES = str.maketrans("‘’‚‛ʼ“”„‟", "'''''\"\"\"\"")  # noqa: RUF001 - the curly ones are meant


class ClipTokenizer:
    """Texts to ids between a start and an end marker, zero padded; a marker's name in a text stays text."""

    def __init__(self, tokenizer: Tokenizer, where: str = "tokenizer") -> None:
        """Raises CheckpointError unless both markers exist and the end marker has the largest id."""
        vocabulary: dict[str, int] = tokenizer.get_vocab(with_added_tokens=True)
        for marker in (START, END):
            if marker not in vocabulary:
                raise CheckpointError(f"{where}: the vocabulary lacks {marker}")
        self.start_id, self.end_id = vocabulary[START], vocabulary[END]
        self.vocab_size = max(vocabulary.values()) + 1
        if self.end_id != self.vocab_size - 1:
            # The text tower pools where the id is largest.
            last = self.vocab_size - 1
            raise CheckpointError(f"{where}: {END} is {self.end_id}; it must be the largest id, {last}")
        tokenizer.no_padding()
        tokenizer.no_truncation()
        tokenizer.encode_special_tokens = True
        self._tokenizer = tokenizer

    @classmethod
    def from_file(cls, path: Path) -> Self:
        """From tokenizer.json, vocab.json beside merges.txt, a folder of these, or OpenAI's merges (.txt.gz).

        Raises:
            CheckpointError: a file that is missing or not of these forms.
        """
        file = _pick(path) if path.is_dir() else path
        try:
            if file.suffix == ".gz":
                return cls(_from_openai(file), str(file))
            if file.name == "vocab.json":
                merges = file.with_name("merges.txt")
                return cls(_clip(*models.BPE.read_file(str(file), str(merges))), str(file))
            return cls(Tokenizer.from_file(str(file)), str(file))
        except CheckpointError:
            raise
        except Exception as error:  # the tokenizers library raises nothing narrower
            raise CheckpointError(f"{file}: not a readable tokenizer ({error})") from error

    def __call__(self, texts: Sequence[str], length: int, *, upstream_compat: bool = False) -> torch.Tensor:
        """B texts -> ids (B, length) int64.

        A long text is shortened so that the end marker is its last id. `upstream_compat` instead cuts the ids
        of a 77-token text at `length`, as published, which loses the end marker.

        Raises:
            InvalidValueError: a length without room for both markers.
        """
        longest = _UPSTREAM_LENGTH if upstream_compat else length
        allowed = f"{_MIN_LENGTH} to {_UPSTREAM_LENGTH}" if upstream_compat else f"{_MIN_LENGTH} or more"
        require(_MIN_LENGTH <= length <= longest, "length", length, allowed)
        ids = torch.zeros(len(texts), length, dtype=torch.int64)
        for row, text in zip(ids, texts, strict=True):
            found = [self.start_id, *self.encode(text)[: longest - _MIN_LENGTH], self.end_id][:length]
            row[: len(found)] = torch.tensor(found)
        return ids

    def encode(self, text: str) -> list[int]:
        """Ids of a text without the markers."""
        return self._tokenizer.encode(_clean(text), add_special_tokens=False).ids


def _clean(text: str) -> str:
    """CLIP's cleaning: HTML entities (twice), quotes, composed characters, white space, lower case."""
    plain = html.unescape(html.unescape(text)).translate(_STRAIGHT_QUOTES)
    return " ".join(unicodedata.normalize("NFC", plain).split()).lower()


def _pick(folder: Path) -> Path:
    names = ("tokenizer.json", "vocab.json", "bpe_simple_vocab_16e6.txt.gz")
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise CheckpointError(f"{folder}: holds none of {', '.join(names)}")


def _from_openai(path: Path) -> Tokenizer:
    """Build the vocabulary from the merges: bytes, bytes that end a word, merged pairs, the two markers."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        lines = file.read().split("\n")
    pairs = [line.split() for line in lines[1 : 1 + _NUM_MERGES] if line]  # line 0 is a comment
    merges = [(left, right) for left, right in pairs]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = [*alphabet, *(c + _WORD_END for c in alphabet), *(a + b for a, b in merges), START, END]
    return _clip({word: i for i, word in enumerate(words)}, merges)


def _clip(vocabulary: dict[str, int], merges: list[tuple[str, str]]) -> Tokenizer:
    tokenizer = Tokenizer(
        models.BPE(vocabulary, merges, end_of_word_suffix=_WORD_END, unk_token=END, fuse_unk=False)
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PIECES), "removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer
