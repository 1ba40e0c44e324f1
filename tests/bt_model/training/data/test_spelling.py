"""What is supervised, and what happens to dialogues that are too long."""

from pathlib import Path

import pytest

from bt_model.backends.llava import special_ids
from bt_model.errors import InvalidValueError
from bt_model.prompt.templates import template
from bt_model.prompt.tokenizer import TextTokenizer
from bt_model.training.data.dialogues import Exchange, VideoDialogue
from bt_model.training.data.spelling import Speller, fitting_dialogues
from bt_model.training.data.tokens import IGNORED, TokenRow
from tests import tiny

SAID = (
    Exchange("which way does it move?", "it moves left."),
    Exchange("first?", "it grows."),
    Exchange("x", "y"),
)
NUM_VIDEO = 5


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> TextTokenizer:
    folder: Path = tmp_path_factory.mktemp("tokenizers")
    tiny.write_tokenizers(folder)
    return TextTokenizer(folder / "chat.json")


@pytest.fixture
def speller(tokenizer: TextTokenizer) -> Speller:
    return Speller(template("vicuna_v1_1"), special_ids(tokenizer, template("vicuna_v1_1")), tokenizer.encode)


def runs(row: TokenRow) -> list[list[int]]:
    """Runs of supervised labels."""
    found: list[list[int]] = [[]]
    for label in row.labels:
        if label == IGNORED:
            found.append([])
        else:
            found[-1].append(label)
    return [run for run in found if run]


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("is_video_first", [None, False, True])
def test_answers_and_their_ends_are_supervised_and_nothing_else(
    speller: Speller, tokenizer: TextTokenizer, count: int, is_video_first: bool | None
) -> None:
    row = speller.row(VideoDialogue("v", SAID[:count], is_video_first), NUM_VIDEO)
    assert [tokenizer.decode(run[:-1]) for run in runs(row)] == [f" {each.answer}" for each in SAID[:count]]
    assert {run[-1] for run in runs(row)} == {speller.ids.eos}
    assert all(label in (IGNORED, token) for label, token in zip(row.labels, row.ids, strict=True))


@pytest.mark.parametrize(
    ("is_video_first", "text"), [(False, "USER: {q}\n{v} ASSISTANT:"), (True, "USER: {v}\n{q} ASSISTANT:")]
)
def test_the_video_stands_between_its_markers_where_the_dialogue_says(
    speller: Speller, tokenizer: TextTokenizer, is_video_first: bool, text: str
) -> None:
    row = speller.row(VideoDialogue("v", SAID[:1], is_video_first), NUM_VIDEO)
    begin, end = row.video_at, row.video_at + NUM_VIDEO
    assert row.ids[begin:end] == [speller.ids.bos] * NUM_VIDEO
    assert (row.ids[begin - 1], row.ids[end]) == (speller.ids.video_start, speller.ids.video_end)
    parts = tokenizer.decode(row.ids[1 : begin - 1]), tokenizer.decode(row.ids[end + 1 : -1])
    expected = text.format(q=SAID[0].question, v="|").split("|")
    assert parts[0].endswith(expected[0])
    assert parts[1] == f"{expected[1]} {SAID[0].answer}"


def test_a_dialogue_that_is_too_long_loses_its_last_turns(speller: Speller) -> None:
    whole = VideoDialogue("v", SAID)
    lengths = [len(speller.row(VideoDialogue("v", SAID[:n]), NUM_VIDEO).ids) for n in (1, 2, 3)]
    assert lengths == sorted(set(lengths))
    for count, length in enumerate(lengths, 1):
        for room, expected in ((length, count), (length - 1, count - 1)):
            kept = speller.fitting(whole, NUM_VIDEO, room)
            assert kept == (VideoDialogue("v", SAID[:expected]) if expected else None)
            if kept is not None:
                assert len(speller.row(kept, NUM_VIDEO).ids) <= room


def test_what_is_cut_and_what_does_not_fit_is_counted(speller: Speller) -> None:
    short, long = VideoDialogue("a", SAID[2:]), VideoDialogue("b", (Exchange("q " * 90, "a"),))
    room = len(speller.row(short, NUM_VIDEO).ids)
    cut = VideoDialogue("c", (SAID[2], SAID[0]))
    found = fitting_dialogues([short, long, cut], speller, NUM_VIDEO, room)
    assert (found.num_cut, found.num_too_long) == (1, 1)
    assert found.dialogues == [short, VideoDialogue("c", SAID[2:])]


def test_a_context_in_which_nothing_fits_is_refused(speller: Speller) -> None:
    with pytest.raises(InvalidValueError, match=r"data\.max_length is 20; allowed: more, no dialogue fits"):
        fitting_dialogues([VideoDialogue("v", SAID)], speller, NUM_VIDEO, 20)
