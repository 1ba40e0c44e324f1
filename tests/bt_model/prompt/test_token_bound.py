"""The fewest tokens of a text: never more than it has, for every kind of tokenizer with a bound."""

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unicodedata import normalize

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sentencepiece import SentencePieceTrainer

from bt_model.errors import ContextLengthError
from bt_model.prompt.token_bound import bound_of_pipeline
from bt_model.prompt.tokenizer import SentencePieceTokenizer, TextTokenizer, Tokenizer, encoder_within
from bt_model.types import SPACE_MARK, TokenBound
from tests import tiny
from tests.bt_model.prompt.test_sentencepiece import TEXTS, write_model

EMBEDDED = Path(__file__).parents[3] / "weights" / "embedded"
BYTES = {f"<0x{byte:02X}>": byte for byte in range(256)}
LLAMA_NORMALIZER = {
    "type": "Sequence",
    "normalizers": [
        {"type": "Prepend", "prepend": SPACE_MARK},
        {"type": "Replace", "pattern": {"String": " "}, "content": SPACE_MARK},
    ],
}


ALPHA = "\u1f82"  # one character, or four that are composed
RUNS = {
    "llama": (
        *(SPACE_MARK * count for count in (1, 2, 4)),
        "a",
        "aa",
        "aaaa",
        f"a{SPACE_MARK}",
        f"{SPACE_MARK}a",
    ),
    "composed": tuple(ALPHA * count for count in (1, 2, 4)),
}


def write_llama_like(folder: Path, runs: Sequence[str], normalizer: dict[str, Any]) -> Path:
    """Bytes as a last resort, and runs of characters as tokens."""
    merges = [[run[:cut], run[cut:]] for run in runs for cut in [len(run) // 2] if len(run) > 1]
    merges = [pair for pair in merges if set(pair) <= set(runs)]
    vocab = BYTES | {run: 256 + number for number, run in enumerate(runs)}
    model = {"type": "BPE", "vocab": vocab, "merges": merges, "byte_fallback": True, "unk_token": None}
    path = folder / "llama.json"
    path.write_text(json.dumps({"normalizer": normalizer, "model": model, "added_tokens": []}))
    return path


def changed(path: Path, **parts: object) -> dict[str, Any]:
    """A tokenizer.json with other parts."""
    return json.loads(path.read_text(encoding="utf-8")) | parts


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tokenizer]:
    folder = tmp_path_factory.mktemp("tokenizers")
    tiny.write_tokenizers(folder)
    return {
        "bytes": TextTokenizer(folder / "chat.json"),
        "captions": TextTokenizer(EMBEDDED / "clip" / "tokenizer.json"),
        "embedded": TextTokenizer(EMBEDDED / "llava_video" / "tokenizer.json"),
        "composed": TextTokenizer(write_llama_like(folder, RUNS["composed"], {"type": "NFC"})),
        "llama": TextTokenizer(write_llama_like(folder, RUNS["llama"], LLAMA_NORMALIZER)),
        "sentencepiece": SentencePieceTokenizer(write_model(folder), {}),
    }


SPELLED_OUT = normalize("NFD", ALPHA)
SPACES = (" ", "\n", "\u3000", "\xa0", SPACE_MARK)
PARTS = ("a", "aaaa", " counterclockwise", "</s>", "<0x41>", "\u1fef", SPELLED_OUT, SPELLED_OUT * 4, *SPACES)
TEXT = st.lists(st.sampled_from(PARTS) | st.text(st.characters(exclude_categories=["Cs"]), max_size=5)).map(
    "".join
)


@pytest.mark.parametrize("kind", ["bytes", "captions", "embedded", "composed", "llama", "sentencepiece"])
def test_no_text_has_fewer_tokens(tokenizers: dict[str, Tokenizer], kind: str) -> None:
    tokenizer = tokenizers[kind]
    bound = tokenizer.bound
    assert bound is not None

    @settings(max_examples=150, deadline=None)
    @given(st.lists(TEXT, min_size=1, max_size=3))
    def check(texts: Sequence[str]) -> None:
        assert bound.least(texts) <= len(tokenizer.encode("".join(texts)).ids)

    check()


@pytest.mark.parametrize("kind", ["bytes", "captions", "embedded", "composed", "llama", "sentencepiece"])
def test_the_longest_pieces_side_by_side_have_no_fewer_tokens(
    tokenizers: dict[str, Tokenizer], kind: str
) -> None:
    tokenizer = tokenizers[kind]
    assert tokenizer.bound is not None
    pieces = {tokenizer.decode([number]) for number in range(tokenizer.vocab_size)}
    for piece in sorted(pieces, key=len)[-20:]:
        for text in (piece * 30, f" {piece}" * 30):
            assert tokenizer.bound.least([text]) <= len(tokenizer.encode(text).ids)


def test_plain_words_are_bounded_well(tokenizers: dict[str, Tokenizer]) -> None:
    tokenizer, text = tokenizers["embedded"], "what moves to the left " * 1000
    assert tokenizer.bound is not None
    assert tokenizer.bound.least([text]) > 0.4 * len(tokenizer.encode(text).ids)


@pytest.mark.parametrize(
    "parts",
    [
        {"normalizer": {"type": "Strip", "strip_left": True, "strip_right": True}},
        {"normalizer": {"type": "Replace", "pattern": {"String": "a"}, "content": ""}},
        {"pre_tokenizer": None},  # characters that are not in the vocabulary are left out
        {
            "pre_tokenizer": {
                "type": "Split",
                "pattern": {"String": "a"},
                "behavior": "Removed",
                "invert": False,
            }
        },
        {"model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}},
        {"model": {"type": "WordPiece", "vocab": {"[UNK]": 0}, "unk_token": "[UNK]"}},
    ],
)
def test_nothing_is_said_where_characters_may_be_lost(parts: dict[str, object]) -> None:
    assert bound_of_pipeline(changed(EMBEDDED / "llava_video" / "tokenizer.json", **parts)) is None


@pytest.mark.parametrize(
    "options",
    [
        {"normalization_rule_name": "nmt_nfkc"},
        {"remove_extra_whitespaces": True},
        {"byte_fallback": False, "vocab_size": 60},
    ],
)
def test_nothing_is_said_of_a_sentencepiece_model_that_loses_characters(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    written = io.BytesIO()
    chosen: dict[str, Any] = {"vocab_size": 340, "byte_fallback": True, "normalization_rule_name": "identity"}
    chosen |= {"remove_extra_whitespaces": False} | options
    SentencePieceTrainer.Train(
        sentence_iterator=iter(TEXTS * 20), model_writer=written, model_type="bpe", hard_vocab_limit=False,
        minloglevel=2, **chosen,
    )  # fmt: skip
    path = tmp_path / "tokenizer.model"
    path.write_bytes(written.getvalue())
    assert SentencePieceTokenizer(path, {}).bound is None


def test_texts_of_one_prompt_are_refused_before_the_one_that_is_too_much_is_tokenised(
    tokenizers: dict[str, Tokenizer],
) -> None:
    tokenizer = tokenizers["embedded"]
    first, second = "what moves? " * 10, "it does " * 25 + "." * 10
    assert tokenizer.bound is not None
    least = len(tokenizer.encode(first).ids) + tokenizer.bound.least([second])
    encode = encoder_within(tokenizer, 60)
    assert encode(first) == tokenizer.encode(first)
    with pytest.raises(ContextLengthError, match=f"have {least} tokens or more; the context holds 60"):
        encode(second)


def test_neighbouring_texts_may_share_a_word() -> None:
    assert TokenBound(100, 1).least(["a", "b c"]) == 1


@pytest.mark.parametrize("run", [" ", "a", "what "])
def test_a_long_text_is_known_to_be_long_whatever_it_consists_of(
    tokenizers: dict[str, Tokenizer], run: str
) -> None:
    bounds = [tokenizer.bound for tokenizer in tokenizers.values()]
    assert all(bound is not None and bound.least([run * 40_000]) > 500 for bound in bounds)
