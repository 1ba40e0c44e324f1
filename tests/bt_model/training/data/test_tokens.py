"""Batches: what is supervised, what is padding, and that training reads the prompts that serving writes."""

from collections.abc import Sequence
from random import Random

import pytest
import torch

from bt_model.backends.parts.bridge import Bridge
from bt_model.backends.parts.template_backend import TemplateBackend
from bt_model.generation.request import Tokens
from bt_model.prompt.tokenizer import TextTokenizer
from bt_model.training.data.tokens import IGNORED, TokenRow, collate
from bt_model.types import GenerateOptions, Turn, VideoTokens
from lab.dialogues import dialogue, shuffled
from lab.model import EmbeddedModel
from lab.shapes.events import Move
from lab.shapes.questions import ClipQuestion, questions
from lab.shapes.scene import Scene, SceneItem
from tests import tiny

ASKED = (
    ClipQuestion("direction", "which way does the circle move?", "left", "It moves left."),
    ClipQuestion("order", "what happens first?", "it grows", "First it grows."),
    ClipQuestion("colour", "what colour is it?", "blue", "It is blue."),
)


def scene(x: float = 24.0, direction: str = "left") -> Scene:
    return Scene(
        (SceneItem("circle", "red", diameter=18.0, x=x, y=24.0),), "black", Move(direction, path=20.0)
    )


def backend(model: EmbeddedModel) -> TemplateBackend:
    speller = model.speller
    encoder = speller.encode.__self__  # pyright: ignore[reportFunctionMemberAccess] - a bound method
    assert isinstance(encoder, TextTokenizer)
    bridge = Bridge(model.video.projector)
    return TemplateBackend(model.video.lm, bridge, encoder, speller.style, speller.ids, GenerateOptions())


def row_of(model: EmbeddedModel, listed: Sequence[ClipQuestion]) -> TokenRow:
    return model.speller.row(dialogue(listed), model.num_video)


def supervised(row: TokenRow) -> list[list[int]]:
    """Runs of supervised ids."""
    runs: list[list[int]] = [[]]
    for token, label in zip(row.ids, row.labels, strict=True):
        if label == IGNORED:
            runs.append([])
        else:
            assert label == token
            runs[-1].append(token)
    return [run for run in runs if run]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_labels_cover_each_answer_and_its_eos_and_nothing_else(model: EmbeddedModel, count: int) -> None:
    decoder = backend(model)
    runs = supervised(row_of(model, ASKED[:count]))
    assert [decoder.decode(run[:-1]) for run in runs] == [
        f" {question.sentence}" for question in ASKED[:count]
    ]
    assert {run[-1] for run in runs} == {model.speller.ids.eos}


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_row_is_the_serving_prompt_of_the_same_dialogue(model: EmbeddedModel, count: int) -> None:
    turns: list[Turn] = []
    for question in ASKED[:count]:
        turns += [Turn("user", question.text), Turn("assistant", question.sentence)]
    video = VideoTokens(b"", torch.zeros(tiny.P + 1, tiny.D))
    served: list[int] = []
    for part in backend(model).segments([*turns, Turn("user", "and?")], [video]):
        served += part.ids if isinstance(part, Tokens) else [-1] * len(part.embeds)
    row = row_of(model, ASKED[:count])
    begin, end = row.video_at, row.video_at + model.num_video
    trained = [*row.ids[:begin], *[-1] * (end - begin), *row.ids[end:]]
    assert trained == served[: len(trained)]
    after = served[len(trained) :]
    assert backend(model).decode(after) == "USER: and? ASSISTANT:"


def test_rows_of_a_batch_are_padded_on_the_right(model: EmbeddedModel) -> None:
    rows = [row_of(model, ASKED[:1]), row_of(model, ASKED)]
    batch = collate(rows, model.num_video, pad=7)
    for number, row in enumerate(rows):
        length = len(row.ids)
        assert batch.ids[number, :length].tolist() == row.ids
        assert batch.labels[number, :length].tolist() == row.labels
        assert set(batch.ids[number, length:].tolist()) <= {7}
        assert set(batch.labels[number, length:].tolist()) <= {IGNORED}
        assert batch.is_real[number].tolist() == [n < length for n in range(batch.ids.shape[1])]
        tokens = batch.is_video[number].nonzero().flatten().tolist()
        assert tokens == list(range(row.video_at, row.video_at + model.num_video))


@pytest.mark.parametrize("most", [1, 2, 3])
def test_a_shuffle_always_asks_about_time(most: int) -> None:
    for seed in range(20):
        asked = questions(scene(), Random(seed))
        picked = shuffled(asked, Random(seed), most)
        assert len(picked) == most
        assert len(set(picked)) == most
        assert [q.is_temporal for q in picked].count(True) == 1
