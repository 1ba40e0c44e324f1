"""A model's vocabulary as the grammar library needs it: the bytes of its tokens, and how it spells a text."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

from llguidance import LLTokenizer, TokenizerWrapper

from bt_model.errors import InvalidValueError

_MARK = "\x02"  # in front of what goes on: tokenizers treat the beginning of a text in another way
_NEEDED = frozenset(bytes([byte]) for byte in range(0x20, 0x7F))


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """`tokens` holds the bytes that each id adds to a text; `ends` are ids that end an answer."""

    tokens: tuple[bytes, ...]
    ends: tuple[int, ...]

    @classmethod
    def of(cls, data: Callable[[int], bytes | None], size: int, ends: Sequence[int]) -> Self:
        """From what each of `size` ids adds to a text.

        Raises:
            InvalidValueError: too few tokens for JSON, or none that ends an answer.
        """
        last = set(ends)
        tokens = tuple(b"" if number in last else data(number) or b"" for number in range(size))
        missing = sorted(byte.decode() for byte in _NEEDED.difference(tokens))
        if missing or not last:
            lack = (
                f"has no token for {' '.join(missing[:8])}" if missing else "has no token that ends an answer"
            )
            text = f"response_format is not offered by this model: its vocabulary {lack}; allowed: text"
            raise InvalidValueError(text, code="unsupported_parameter", param="response_format")
        return cls(tokens, tuple(sorted(last)))

    def tokenizer(self, encode: Callable[[str], Sequence[int]] | None = None) -> LLTokenizer:
        """The library's object; a text with one spelling only is said as `encode` spells it, if given."""
        return _Spelling(self, encode).tokenizer


class _Spelling:
    """What `TokenizerWrapper` reads of a tokenizer."""

    bos_token_id = None

    def __init__(self, vocabulary: Vocabulary, encode: Callable[[str], Sequence[int]] | None) -> None:
        self.tokens = list(vocabulary.tokens)
        for number in vocabulary.ends:
            self.tokens[number] = f"<{number}>".encode()  # special ones need a name
        self.special_token_ids = self.ends = list(vocabulary.ends)
        self.eos_token_id = self.ends[0]
        self._encode = encode
        self._before = tuple(encode(_MARK)) if encode is not None else ()
        self.tokenizer = LLTokenizer(TokenizerWrapper(self), eos_token=self.ends)

    def __call__(self, text: bytes | str) -> list[int]:
        text = text if isinstance(text, str) else text.decode(errors="replace")
        ids = [] if self._encode is None else list(self._encode(_MARK + text))
        ids = ids[len(self._before) :] if tuple(ids[: len(self._before)]) == self._before else []
        if b"".join(self.tokens[number] for number in ids) == text.encode():
            return ids
        return self.tokenizer.greedy_tokenize(text) if hasattr(self, "tokenizer") else []
