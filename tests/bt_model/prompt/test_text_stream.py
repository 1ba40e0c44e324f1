"""Any split of an answer into tokens shows the same text."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models

from bt_model.prompt.text_stream import WINDOW, TextStream
from bt_model.prompt.tokenizer import SentencePieceTokenizer, TextTokenizer
from tests.bt_model.prompt.test_sentencepiece import write_model

TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="�"), max_size=60)
EMOJI = "👩‍👩‍👧 ok 🎬🎥"
LONG = "日本語のビデオ🎬 and plain words, é ü — " * 12


def as_bytes(ids: Sequence[int]) -> str:
    return bytes(ids).decode(errors="replace")


def byte_fallback() -> Tokenizer:
    """Llama's way: unknown characters are byte tokens, and one bad byte spoils its whole run."""
    vocabulary = {"<unk>": 0} | {f"<0x{i:02X}>": i + 1 for i in range(256)}
    tokenizer = Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>", byte_fallback=True))
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    return tokenizer


def shown(stream: TextStream, parts: Sequence[Sequence[int]]) -> str:
    return "".join(stream.push(part) for part in parts) + stream.finish()


def split(ids: Sequence[int], cuts: Sequence[int]) -> list[Sequence[int]]:
    places = [0, *sorted(cut % (len(ids) + 1) for cut in cuts), len(ids)]
    return [ids[begin:end] for begin, end in pairwise(places)]


def cut_at_stop(text: str, stops: Sequence[str]) -> str:
    """What is before the first stop string that is complete; slow definition."""
    begun = text.lstrip()
    for end in range(len(begun) + 1):
        found = [len(stop) for stop in stops if begun[:end].endswith(stop)]
        if found:
            return begun[: end - max(found)]
    return begun


@given(text=TEXTS, cuts=st.lists(st.integers(0, 300), max_size=12))
def test_any_split_shows_the_text_without_its_leading_blanks(text: str, cuts: list[int]) -> None:
    assert shown(TextStream(as_bytes, ()), split(text.encode(), cuts)) == text.lstrip()


@given(
    text=st.text("ab\n é🎬", max_size=30),
    stops=st.lists(st.text("ab\n é🎬", min_size=1, max_size=4), min_size=1, max_size=4),
    cuts=st.lists(st.integers(0, 200), max_size=12),
)
@example("abba", ["abba", "bb"], [])
@example("abba", ["abba", "bb"], [1, 2, 3])
def test_any_split_ends_before_the_first_complete_stop_string(
    text: str, stops: list[str], cuts: list[int]
) -> None:
    assert shown(TextStream(as_bytes, stops), split(text.encode(), cuts)) == cut_at_stop(text, stops)


@pytest.mark.parametrize("text", [EMOJI, LONG])
def test_tokens_one_by_one_show_the_text(text: str) -> None:
    assert shown(TextStream(as_bytes, ()), [[byte] for byte in text.encode()]) == text


@pytest.mark.parametrize("text", ["語" * 3 * WINDOW, "a" + "🎬" * WINDOW, "aé語🎬" * WINDOW, LONG])
def test_long_runs_of_byte_tokens_show_the_text(text: str) -> None:
    tokenizer = byte_fallback()
    ids = [byte + 1 for byte in text.encode()]
    assert shown(TextStream(tokenizer.decode, ()), [[i] for i in ids]) == text


def test_a_learnt_tokenizer_shows_the_text(tiny_weights: Path) -> None:
    tokenizer = TextTokenizer(tiny_weights / "tiny" / "llava_video" / "tokenizer.json")
    ids = tokenizer.encode(LONG).ids
    assert len(ids) > 2 * WINDOW
    assert shown(TextStream(tokenizer.decode, ()), [[i] for i in ids]) == LONG


def test_a_character_is_shown_only_when_it_is_complete() -> None:
    stream = TextStream(as_bytes, ())
    assert [stream.push([byte]) for byte in "é🎬".encode()] == ["", "é", "", "", "", "🎬"]


def test_an_unfinished_last_character_is_shown_as_such() -> None:
    assert shown(TextStream(as_bytes, ()), ["é".encode()[:1]]) == "�"


def test_text_before_a_stop_string_is_shown_at_once_and_nothing_of_it_ever() -> None:
    stream = TextStream(as_bytes, ("###",))
    assert [stream.push([byte]) for byte in b"hi ##a###b"] == [*"hi ", "", "", "##a", "", "", "", ""]
    assert stream.stopped
    assert stream.finish() == ""


def test_what_could_have_been_a_stop_string_is_shown_at_the_end() -> None:
    stream = TextStream(as_bytes, ("###",))
    assert stream.push(b"hi ##") == "hi "
    assert stream.finish() == "##"
    assert not stream.stopped


def test_the_cost_of_a_token_does_not_grow_with_the_answer() -> None:
    lengths: list[int] = []

    def decode(ids: Sequence[int]) -> str:
        lengths.append(len(ids))
        return as_bytes(ids)

    shown(TextStream(decode, ()), [[byte] for byte in ("語" * 500).encode()])
    assert max(lengths) <= WINDOW + 4


@given(text=TEXTS, cut=st.integers(0, 100), cuts=st.lists(st.integers(0, 300), max_size=12))
def test_a_text_that_goes_on_keeps_its_spaces(text: str, cut: int, cuts: list[int]) -> None:
    before, behind = "x" + text[:cut], text[cut:]
    stream = TextStream(as_bytes, (), before.encode()[-12:])
    assert shown(stream, split(behind.encode(), cuts)) == behind


def test_the_first_word_behind_a_text_has_its_space(tmp_path: Path) -> None:
    tokenizer = SentencePieceTokenizer(write_model(tmp_path), {})
    ids, begun = tokenizer.encode("it moves left").ids, tokenizer.encode("it").ids
    assert ids[: len(begun)] == begun
    stream = TextStream(tokenizer.decode, (), begun)
    assert shown(stream, [[number] for number in ids[len(begun) :]]) == " moves left"
