"""A language model's tokenizer that never turns a user's text into a special token.

Special tokens are looked up by name. Text between them is encoded piece by piece, each piece by itself, since
tokenizer versions disagree about blanks around special tokens.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from sentencepiece import SentencePieceProcessor
from tokenizers import Tokenizer as Pipeline

from bt_model.checkpoints.json_files import read_json
from bt_model.errors import CheckpointError, too_long
from bt_model.prompt.token_bound import bound_of_pipeline, bound_of_sentencepiece
from bt_model.prompt.token_text import bytes_of_piece
from bt_model.types import TokenBound, TokenText


@dataclass(frozen=True, slots=True)
class Encoding:
    """A text's token ids, and the character index at which each token starts."""

    ids: list[int]
    starts: list[int]


class Tokenizer(Protocol):
    """What a backend needs of a tokenizer."""

    bound: TokenBound | None
    """Of the tokens of a text; None where it has none."""

    @property
    def vocab_size(self) -> int:
        """One more than the largest id, special ones included."""
        ...

    def __contains__(self, name: str) -> bool:
        """Whether there is a special token of that name."""
        ...

    @property
    def specials(self) -> Mapping[str, int]:
        """Every special token's id, by name."""
        ...

    def special(self, name: str) -> int:
        """The id of a special token.

        Raises:
            CheckpointError: the tokenizer has no such token.
        """
        ...

    def encode(self, text: str) -> Encoding:
        """Plain text to ids, without special tokens."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """Ids to text; ends in U+FFFD where a character is not complete yet."""
        ...

    def token(self, number: int) -> TokenText:
        """One token by itself; a special one adds nothing to a text."""
        ...


def encoder_within(tokenizer: Tokenizer, max_context: int) -> Callable[[str], Encoding]:
    """Encodes the texts of one prompt, and refuses one that cannot fit before it is tokenised.

    Raises:
        ContextLengthError: the texts so far and the next have more tokens than the context.
    """
    num_tokens = 0

    def encode(text: str) -> Encoding:
        nonlocal num_tokens
        least = num_tokens if tokenizer.bound is None else num_tokens + tokenizer.bound.least([text])
        if least > max_context:
            raise too_long(least, max_context)
        encoding = tokenizer.encode(text)
        num_tokens += len(encoding.ids)
        return encoding

    return encode


def open_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer of a checkpoint folder: `tokenizer.json`, or else `tokenizer.model`.

    Raises:
        CheckpointError: neither is there, or it cannot be read.
    """
    if (folder / "tokenizer.json").is_file():
        return TextTokenizer(folder / "tokenizer.json")
    if (folder / "tokenizer.model").is_file():
        return SentencePieceTokenizer(folder / "tokenizer.model", added_tokens(folder))
    raise CheckpointError(f"{folder}: neither tokenizer.json nor tokenizer.model is there")


def added_tokens(folder: Path) -> dict[str, int]:
    """Tokens that a checkpoint adds to its tokenizer.model, from the files that may list them.

    Raises:
        CheckpointError: one of them cannot be read.
    """
    names, config = folder / "added_tokens.json", folder / "tokenizer_config.json"
    by_name, settings = (read_json(path) if path.is_file() else {} for path in (names, config))
    try:
        known = {name: _id(number) for name, number in by_name.items()}
        decoder: Mapping[str, Any] = settings.get("added_tokens_decoder", {})
        known |= {str(token["content"]): _id(number) for number, token in decoder.items()}
    except (TypeError, ValueError, AttributeError, KeyError) as error:
        why = f"{type(error).__name__}: {error}"
        raise CheckpointError(f"{names} or {config.name}: not a table of added tokens ({why})") from error
    return known


def _id(number: object) -> int:
    """An id given as a JSON number, or as a string where it is an object's key."""
    if type(number) is not int and not (isinstance(number, str) and number.isdecimal()):
        raise ValueError(f"{number!r} is no id")
    return int(number)


class _Specials:
    """Special tokens by name."""

    def __init__(self, where: Path, ids: Mapping[str, int]) -> None:
        self._where = where
        self._special = dict(ids)
        self._names = {number: name for name, number in ids.items()}

    def __contains__(self, name: str) -> bool:
        return name in self._special

    @property
    def specials(self) -> Mapping[str, int]:
        return self._special

    def special(self, name: str) -> int:
        if name not in self._special:
            raise CheckpointError(f"{self._where}: no token {name!r}; there are {', '.join(self._special)}")
        return self._special[name]

    def token(self, number: int) -> TokenText:
        if number in self._names:
            return TokenText(self._names[number], None)
        return TokenText.of(self._bytes(number))

    def _bytes(self, number: int) -> bytes:
        """Of a token that is not special."""
        raise NotImplementedError


class TextTokenizer(_Specials):
    """A `tokenizer.json`, from a file or as text, without its added tokens, so that no text can match one."""

    def __init__(self, path: Path, text: str | None = None) -> None:
        try:
            spec: dict[str, Any] = json.loads(text or path.read_text(encoding="utf-8"))
            super().__init__(path, {t["content"]: _id(t["id"]) for t in spec.get("added_tokens", [])})
            spec["added_tokens"] = []
            spec["post_processor"] = None  # would add BOS and EOS by itself
            spec["truncation"] = spec["padding"] = None
            self._pipeline = Pipeline.from_str(json.dumps(spec))
            self.bound = bound_of_pipeline(spec)
            self._is_byte_level = "ByteLevel" in json.dumps(spec.get("decoder"))
        except Exception as error:  # the tokenizers library raises nothing narrower
            why = type(error).__name__
            raise CheckpointError(f"{path}: not a readable tokenizer.json ({why})") from error

    @property
    def vocab_size(self) -> int:
        return max(self._pipeline.get_vocab_size(), 1 + max(self._special.values(), default=-1))

    def encode(self, text: str) -> Encoding:
        if not text:
            return Encoding([], [])
        encoded = self._pipeline.encode(text, add_special_tokens=False)
        return Encoding(encoded.ids, [start for start, _ in encoded.offsets])

    def decode(self, ids: Sequence[int]) -> str:
        return self._pipeline.decode(list(ids), skip_special_tokens=False)

    def _bytes(self, number: int) -> bytes:
        piece = self._pipeline.id_to_token(number)
        return b"" if piece is None else bytes_of_piece(piece, is_byte_level=self._is_byte_level)


class SentencePieceTokenizer(_Specials):
    """A `tokenizer.model` with the checkpoint's added tokens, which decode to no text."""

    def __init__(self, path: Path, added: Mapping[str, int]) -> None:
        self._pieces = SentencePieceProcessor()
        try:
            serialized = path.read_bytes()
            self._pieces.LoadFromSerializedProto(serialized)
        except (OSError, RuntimeError) as error:
            why = type(error).__name__
            raise CheckpointError(f"{path}: not a readable tokenizer.model ({why})") from error
        size = self._pieces.GetPieceSize()
        control = {self._pieces.IdToPiece(i): i for i in range(size) if self._pieces.IsControl(i)}
        super().__init__(path, {**control, **added})
        self.bound = bound_of_sentencepiece(self._pieces, serialized)

    @property
    def vocab_size(self) -> int:
        return max(self._pieces.GetPieceSize(), 1 + max(self._special.values(), default=-1))

    def encode(self, text: str) -> Encoding:
        if not text:
            return Encoding([], [])
        mapping = self._pieces.EncodeAsOffsetMapping(text)
        return Encoding(list(mapping["ids"]), [start for start, _ in mapping["offsets"]])

    def decode(self, ids: Sequence[int]) -> str:
        size = self._pieces.GetPieceSize()
        return str(self._pieces.DecodeIds([number for number in ids if number < size]))

    def _bytes(self, number: int) -> bytes:
        is_known = number < self._pieces.GetPieceSize()
        if is_known and self._pieces.IsUnknown(number):
            return str(self._pieces.DecodeIds([number])).encode()  # no text is spelled like its name
        return bytes_of_piece(self._pieces.IdToPiece(number), is_byte_level=False) if is_known else b""
