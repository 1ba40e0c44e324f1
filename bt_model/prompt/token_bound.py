"""What a tokenizer says of the fewest tokens of a text, from its vocabulary and before any text is tokenised.

None where nothing can be said: a tokenizer that drops characters, or makes one token of any number of them.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from sentencepiece import SentencePieceProcessor
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.pre_tokenizers import ByteLevel

from bt_model.types import SPACE_MARK, TokenBound, extent

_BYTES = 256
_COMPOSED = 4  # characters that NFC makes one of, at most: no canonical decomposition is longer
_SPLITTERS = ("ByteLevel", "Digits", "Metaspace", "Punctuation", "Split", "UnicodeScripts")
_NORMALIZER = 3  # a field of sentencepiece's ModelProto, and two of its NormalizerSpec
_CHARACTER_MAP, _REMOVE_EXTRA_SPACES = 2, 4
_VARINT, _DELIMITED, _FIXED_BYTES = 0, 2, {1: 8, 5: 4}  # protobuf's wire types


def bound_of_pipeline(spec: Mapping[str, Any]) -> TokenBound | None:
    """The bound of a `tokenizer.json`."""
    model, splitters = spec["model"], _steps(spec.get("pre_tokenizer"), "pretokenizers")
    shrinking = _shrinking(_steps(spec.get("normalizer"), "normalizers"))
    if model.get("type") != "BPE" or shrinking is None or not all(map(_keeps_characters, splitters)):
        return None
    pieces: Mapping[str, int] = model["vocab"]
    if any(step["type"] == "ByteLevel" for step in splitters):
        decode: Callable[[list[str]], str] = ByteLevelDecoder().decode
        if not pieces.keys() >= set(ByteLevel.alphabet()):
            return None
        return _bound((decode([piece]) for piece in pieces), shrinking)
    if not (model.get("byte_fallback") and all(f"<0x{byte:02X}>" in pieces for byte in range(_BYTES))):
        return None  # a run of unknown characters may be one token, or none
    return _bound(pieces, shrinking)


def bound_of_sentencepiece(pieces: SentencePieceProcessor, serialized: bytes) -> TokenBound | None:
    """The bound of a `tokenizer.model`, which is also given as it is on disk."""
    spec = dict(_fields(dict(_fields(serialized)).get(_NORMALIZER, b"")))
    keeps_characters = not spec.get(_CHARACTER_MAP) and spec.get(_REMOVE_EXTRA_SPACES) == b"\0"
    ids = range(pieces.GetPieceSize())
    if not keeps_characters or sum(map(pieces.IsByte, ids)) < _BYTES:
        return None
    return _bound(map(pieces.IdToPiece, ids), 1)


def _bound(pieces: Iterable[str], shrinking: int) -> TokenBound:
    characters, words = zip(*map(extent, pieces), strict=True)
    return TokenBound(max(1, *characters) * shrinking, max(1, *words))


def _steps(part: Mapping[str, Any] | None, name: str) -> list[Mapping[str, Any]]:
    """One normalizer or pre-tokenizer, or several in turn."""
    if part is None:
        return []
    return [step for each in part[name] for step in _steps(each, name)] if name in part else [part]


def _shrinking(normalizers: Iterable[Mapping[str, Any]]) -> int | None:
    """How many characters become one, at most; None if they may be dropped."""
    most = 1
    for step in normalizers:
        match step:
            case {"type": "NFC"}:
                most = _COMPOSED
            case {"type": "Lowercase" | "Prepend"}:
                pass
            case {"type": "Replace", "pattern": {"String": " "}, "content": content} if content == SPACE_MARK:
                pass
            case _:
                return None
    return most


def _keeps_characters(splitter: Mapping[str, Any]) -> bool:
    return (
        splitter["type"] in _SPLITTERS
        and splitter.get("behavior") != "Removed"
        and splitter.get("replacement", SPACE_MARK) == SPACE_MARK
    )


def _fields(message: bytes) -> Iterator[tuple[int, bytes]]:
    """Number and content of a protobuf message's fields; a number's is as it is on disk."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        kind, begin = key & 7, at
        if kind == _DELIMITED:
            length, begin = _varint(message, at)
            at = begin + length
        elif kind == _VARINT:
            _, at = _varint(message, at)
        else:
            at += _FIXED_BYTES[kind]
        yield key >> 3, message[begin:at]


def _varint(message: bytes, at: int) -> tuple[int, int]:
    """A number in groups of seven bits, the lowest first, and where it ends."""
    number, shift = 0, 0
    while True:
        byte = message[at]
        number |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if not byte & 0x80:
            return number, at
