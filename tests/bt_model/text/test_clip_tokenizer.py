import gzip
import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from bt_model.errors import CheckpointError, InvalidValueError
from bt_model.text.clip_tokenizer import END, START, ClipTokenizer
from tests.parity_cases.language import vocabulary

LONG = "a dog runs " * 40
MERGES = ["l o", "lo w</w>", "d o", "do g</w>", "n e", "ne w</w>"]


@pytest.fixture(scope="module")
def clip() -> ClipTokenizer:
    """OpenAI's vocabulary."""
    path = vocabulary()
    if path is None:
        pytest.skip("the package clip, whose merges are the vocabulary, is not installed")
    return ClipTokenizer.from_file(path)


def write_merges(folder: Path) -> Path:
    """A vocabulary of six merges in OpenAI's form."""
    path = folder / "bpe_simple_vocab_16e6.txt.gz"
    path.write_bytes(gzip.compress("\n".join(["#version: 0.2", *MERGES, ""]).encode()))
    return path


@pytest.fixture
def small(tmp_path: Path) -> ClipTokenizer:
    return ClipTokenizer.from_file(write_merges(tmp_path))


def words(*vocabulary: str) -> Tokenizer:
    """One id a word, in the order given."""
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(vocabulary)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return tokenizer


def test_a_text_stands_between_the_markers_and_zeros_follow(small: ClipTokenizer) -> None:
    low, dog = 2 * 256 + 1, 2 * 256 + 3
    assert small(["low dog"], 6).tolist() == [[small.start_id, low, dog, small.end_id, 0, 0]]


def test_a_long_text_keeps_its_end_marker_in_the_last_place(small: ClipTokenizer) -> None:
    ids = small([LONG], 8)[0].tolist()
    assert ids.index(small.end_id) == 7


def test_the_published_cut_loses_the_end_marker(small: ClipTokenizer) -> None:
    assert small.end_id not in small([LONG], 32, upstream_compat=True)[0].tolist()


def test_the_published_cut_forces_the_end_marker_at_place_76(small: ClipTokenizer) -> None:
    assert small([LONG], 77, upstream_compat=True)[0].tolist().index(small.end_id) == 76


def test_both_cuts_agree_where_the_text_fits(small: ClipTokenizer) -> None:
    assert small(["low dog"], 5).tolist() == small(["low dog"], 5, upstream_compat=True).tolist()


@pytest.mark.parametrize("length", [1, 0, -3])
def test_a_length_without_room_for_the_markers_is_refused(small: ClipTokenizer, length: int) -> None:
    with pytest.raises(InvalidValueError, match=f"length is {length}; allowed: 2 or more"):
        small(["low"], length)


def test_the_published_length_ends_at_77(small: ClipTokenizer) -> None:
    with pytest.raises(InvalidValueError, match="length is 78; allowed: 2 to 77"):
        small(["low"], 78, upstream_compat=True)


def test_no_text_gives_no_rows(small: ClipTokenizer) -> None:
    assert tuple(small([], 5).shape) == (0, 5)


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("LOW Dog", "low dog"),
        ("  low \n\t dog ", "low dog"),
        ("low &amp;lt; dog", "low < dog"),
        ("dog\u2019s \u201clow\u201d", 'dog\'s "low"'),
        ("cafe\u0301", "caf\u00e9"),
    ],
    ids=["case", "blanks", "entities twice", "quotes", "composed characters"],
)
def test_texts_are_cleaned(small: ClipTokenizer, text: str, plain: str) -> None:
    assert small.encode(text) == small.encode(plain)


def test_contractions_and_digits_are_pieces_of_their_own(small: ClipTokenizer) -> None:
    assert small.encode("dog's 12") == [*small.encode("dog"), *small.encode("'s"), *small.encode("1 2")]


@pytest.mark.parametrize("marker", [START, END])
def test_text_that_spells_a_marker_stays_text(small: ClipTokenizer, marker: str) -> None:
    assert not {small.start_id, small.end_id} & set(small.encode(f"low {marker} dog"))


def test_text_that_spells_a_marker_stays_text_also_where_the_file_declares_it(tmp_path: Path) -> None:
    tokenizer = words("<unk>", "dog", START, END)
    tokenizer.add_special_tokens([START, END])
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    loaded = ClipTokenizer.from_file(tmp_path)
    assert loaded.end_id not in loaded.encode(f"dog {END} dog")


def test_a_word_list_serves_too(tmp_path: Path) -> None:
    words("<unk>", "red", "circle", START, END).save(str(tmp_path / "tokenizer.json"))
    assert ClipTokenizer.from_file(tmp_path)(["A red  Circle"], 7).tolist() == [[3, 0, 1, 2, 4, 0, 0]]


def test_padding_and_truncation_in_the_file_do_not_apply(tmp_path: Path) -> None:
    tokenizer = words("<unk>", "red", "circle", START, END)
    tokenizer.enable_padding(length=9)
    tokenizer.enable_truncation(2)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    assert ClipTokenizer.from_file(tmp_path).encode("red circle red") == [1, 2, 1]


def test_vocab_and_merges_equal_the_merges_alone(small: ClipTokenizer, tmp_path: Path) -> None:
    folder = tmp_path / "hf"
    folder.mkdir()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    entries = [*alphabet, *(c + "</w>" for c in alphabet), *(m.replace(" ", "") for m in MERGES), START, END]
    (folder / "vocab.json").write_text(json.dumps({entry: i for i, entry in enumerate(entries)}))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *MERGES]))
    texts = ["a new low dog", "it's 25\u00b0C"]
    assert ClipTokenizer.from_file(folder)(texts, 16).tolist() == small(texts, 16).tolist()


def test_the_end_marker_must_have_the_largest_id() -> None:
    with pytest.raises(CheckpointError, match=r"<\|endoftext\|> is 1; it must be the largest id, 2"):
        ClipTokenizer(words(START, END, "dog"))


@pytest.mark.parametrize("marker", [START, END])
def test_a_vocabulary_without_a_marker_is_refused(marker: str) -> None:
    others = [word for word in ("dog", START, END) if word != marker]
    with pytest.raises(CheckpointError, match="the vocabulary lacks"):
        ClipTokenizer(words(*others))


@pytest.mark.parametrize("name", ["tokenizer.json", "vocab.json", "words.txt.gz"])
def test_a_damaged_file_is_refused_by_name(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(b"not one of ours")
    with pytest.raises(CheckpointError, match=name):
        ClipTokenizer.from_file(path)


def test_a_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"absent\.json"):
        ClipTokenizer.from_file(tmp_path / "absent.json")


def test_a_folder_without_a_vocabulary_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"holds none of tokenizer\.json"):
        ClipTokenizer.from_file(tmp_path)


def test_the_published_vocabulary_has_its_published_ids(clip: ClipTokenizer) -> None:
    assert (clip.start_id, clip.end_id, clip.vocab_size) == (49406, 49407, 49408)


def test_a_caption_has_its_published_ids(clip: ClipTokenizer) -> None:
    assert clip(["a man is playing the guitar"], 9).tolist() == [
        [49406, 320, 786, 533, 1629, 518, 5084, 49407, 0]
    ]
