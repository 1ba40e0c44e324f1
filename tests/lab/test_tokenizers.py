from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bt_model.prompt.tokenizer import TextTokenizer
from bt_model.text.clip_tokenizer import ClipTokenizer
from lab.tokenizers import CHAT_SPECIALS, CLIP_SPECIALS
from tests import tiny


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizers")
    tiny.write_tokenizers(folder)
    return folder


@given(text=st.text(max_size=40))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
def test_any_text_survives_a_round_trip_in_a_chat(folder: Path, text: str) -> None:
    tokenizer = TextTokenizer(folder / "chat.json")
    clean = text.encode(errors="ignore").decode()
    assert tokenizer.decode(tokenizer.encode(clean).ids) == clean


@pytest.mark.parametrize(("name", "specials"), [("chat.json", CHAT_SPECIALS), ("clip.json", CLIP_SPECIALS)])
def test_special_tokens_have_the_largest_ids(folder: Path, name: str, specials: tuple[str, ...]) -> None:
    tokenizer = TextTokenizer(folder / name)
    first = tokenizer.vocab_size - len(specials)
    assert [tokenizer.special(special) for special in specials] == list(range(first, tokenizer.vocab_size))


def test_the_vocabulary_is_as_large_as_asked_for_at_most(folder: Path) -> None:
    assert TextTokenizer(folder / "chat.json").vocab_size <= 300


def test_merges_are_learnt_from_the_texts(folder: Path) -> None:
    tokenizer = TextTokenizer(folder / "chat.json")
    plain, swapped = tokenizer.encode(tiny.TEXTS[0]), tokenizer.encode(tiny.TEXTS[0].swapcase())
    assert len(plain.ids) < len(swapped.ids)


def test_captions_are_read_without_regard_to_case(folder: Path) -> None:
    tokenizer = ClipTokenizer.from_file(folder / "clip.json")
    assert tokenizer.encode("A Red Circle") == tokenizer.encode("a red circle")


def test_chats_keep_their_case(folder: Path) -> None:
    tokenizer = TextTokenizer(folder / "chat.json")
    assert tokenizer.encode("A Red Circle") != tokenizer.encode("a red circle")
