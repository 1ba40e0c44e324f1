"""Dialogues with their answers: where each answer stands, and that serving spells it alike."""

from collections.abc import Sequence

import pytest
import torch

from bt_model.errors import InvalidValueError
from bt_model.generation.request import Segment, Soft, Tokens
from bt_model.prompt.layout import PlacedVideo
from bt_model.prompt.segments import SpecialIds, answered, segments
from bt_model.prompt.templates import TEMPLATES, template
from bt_model.prompt.tokenizer import Encoding, SentencePieceTokenizer, TextTokenizer, Tokenizer
from bt_model.types import Turn
from tests import tiny
from tests.bt_model.prompt.test_sentencepiece import write_model

SPECIALS = sorted(
    {name for style in TEMPLATES.values() for name in (*style.specials(), style.eos)} - {"</s>"}
)
NAMED = {name: 10_005 + number for number, name in enumerate(SPECIALS)}
IDS = SpecialIds(bos=10_001, eos=10_002, video_start=10_003, video_end=10_004, named=NAMED)
VIDEO = [PlacedVideo(Soft(b"", torch.zeros(3, 4)))]
SAID = [
    Turn("user", "what happens\nhere?"),
    Turn("assistant", "it moves: 日本 🎬 left"),
    Turn("user", "and the red circle?"),
    Turn("assistant", "é"),
]
UNTIL = {"one": SAID[:2], "two": SAID, "own system": [Turn("system", "Be brief."), *SAID]}


def characters(text: str) -> Encoding:
    return Encoding([ord(c) for c in text], list(range(len(text))))


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tokenizer]:
    folder = tmp_path_factory.mktemp("tokenizers")
    tiny.write_tokenizers(folder)
    return {
        "byte pairs": TextTokenizer(folder / "chat.json"),
        "sentencepiece": SentencePieceTokenizer(write_model(folder), {}),
    }


def flat(parts: Sequence[Segment]) -> list[int]:
    """Ids, with -1 in the places of the video's tokens."""
    return [i for part in parts for i in (part.ids if isinstance(part, Tokens) else [-1] * len(part.embeds))]


@pytest.mark.parametrize("turns", UNTIL.values(), ids=UNTIL)
@pytest.mark.parametrize("name", TEMPLATES)
def test_answers_with_their_ends_and_nothing_else_are_marked(name: str, turns: list[Turn]) -> None:
    style = template(name)
    dialogue = answered(turns, style, IDS, characters, VIDEO)
    ids = flat(dialogue.segments)
    end = [ord(c) for c in "".join(style.stop_strings)] or [NAMED.get(style.eos, IDS.eos)]
    before = style.answer[0] if isinstance(style.answer[0], str) else ""
    expected = [[*map(ord, f"{before}{turn.text}"), *end] for turn in turns if turn.role == "assistant"]
    assert [ids[place.start : place.stop] for place in dialogue.answers] == expected


@pytest.mark.parametrize("kind", ["byte pairs", "sentencepiece"])
@pytest.mark.parametrize("name", [name for name in TEMPLATES if not name.startswith("minigpt4")])
def test_what_stands_before_each_answer_is_the_serving_prompt(
    name: str, kind: str, tokenizers: dict[str, Tokenizer]
) -> None:
    style, tokenizer = template(name), tokenizers[kind]
    dialogue = answered(SAID, style, IDS, tokenizer.encode, VIDEO)
    ids = flat(dialogue.segments)
    for number, place in enumerate(dialogue.answers):
        prompt = flat(segments(SAID[: 2 * number + 1], style, IDS, tokenizer.encode, VIDEO))
        assert ids[: place.start] == prompt


@pytest.mark.parametrize("kind", ["byte pairs", "sentencepiece"])
@pytest.mark.parametrize("name", TEMPLATES)
def test_a_dialogue_is_the_start_of_the_next_questions_prompt(
    name: str, kind: str, tokenizers: dict[str, Tokenizer]
) -> None:
    style, tokenizer = template(name), tokenizers[kind]
    ids = flat(answered(SAID, style, IDS, tokenizer.encode, VIDEO).segments)
    prompt = flat(segments([*SAID, Turn("user", "\nwhy?")], style, IDS, tokenizer.encode, VIDEO))
    assert prompt[: len(ids)] == ids


def test_an_answer_is_read_back_from_its_marked_tokens(tokenizers: dict[str, Tokenizer]) -> None:
    for tokenizer in tokenizers.values():
        dialogue = answered(SAID, template("vicuna_v1_1"), IDS, tokenizer.encode, VIDEO)
        ids = flat(dialogue.segments)
        read = [tokenizer.decode(ids[place.start : place.stop - 1]) for place in dialogue.answers]
        assert [text.strip() for text in read] == [SAID[1].text, SAID[3].text]


def test_a_dialogue_must_end_with_an_answer() -> None:
    with pytest.raises(InvalidValueError, match="have the roles user, user"):
        answered(SAID[:1], template("plain"), IDS, characters, VIDEO)
    with pytest.raises(InvalidValueError, match="is empty"):
        answered([SAID[0], Turn("assistant", " ")], template("plain"), IDS, characters, VIDEO)


@pytest.mark.parametrize("name", ["video-chatgpt_v1", "llava_v1.5", "plain"])
def test_a_turned_template_has_the_video_on_the_other_side(name: str) -> None:
    style = template(name)
    after, before = ["q\n<video>", "<video>\nq"] if not style.is_video_first else ["<video>\nq", "q\n<video>"]
    ids = SpecialIds(bos=10_001, eos=10_002)

    def spelled(turned: bool) -> str:
        chosen = style.turned() if turned else style
        parts = segments([Turn("user", "q")], chosen, ids, characters, VIDEO)
        texts = ["<video>" if isinstance(p, Soft) else "".join(map(chr, p.ids)) for p in parts]
        return "".join(texts)

    assert f"USER: {after}" in spelled(turned=False)
    assert f"USER: {before}" in spelled(turned=True)
    assert style.turned().turned() == style


def test_every_token_knows_where_it_begins(tokenizers: dict[str, Tokenizer]) -> None:
    text = "the red circle: é日🎬 it moves\nleft"
    for tokenizer in tokenizers.values():
        encoding = tokenizer.encode(text)
        assert encoding.starts == sorted(encoding.starts)
        for number, start in enumerate(encoding.starts):
            if number and start > encoding.starts[number - 1]:
                assert tokenizer.decode(encoding.ids[:number]).strip() == text[:start].strip()
        assert tokenizer.encode("") == Encoding([], [])
