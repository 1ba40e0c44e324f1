"""Batches: what is supervised, what is padding, and that training reads the prompts that serving writes."""

from collections.abc import Sequence
from pathlib import Path
from random import Random

import pytest
import torch

from bt_model.backends.llava import LlavaBackend
from bt_model.errors import InvalidValueError
from bt_model.generation.request import Tokens
from bt_model.prompt.tokenizer import TextTokenizer
from bt_model.training.data import TokenRow, TrunkCache, build_cache, collate, group_numbers
from bt_model.training.losses import IGNORED
from bt_model.types import FrameSize, GenerateOptions, Sampling, Turn, VideoTokens
from bt_model.video.decode import decode
from bt_model.video.transform import normalise
from lab.dialogues import shuffled
from lab.embedded import Model
from lab.shapes.clip_file import write_corpus
from lab.shapes.events import OPPOSITE, Move
from lab.shapes.questions import Question, questions
from lab.shapes.scene import Item, Scene
from tests import tiny

ASKED = (
    Question("direction", "which way does the circle move?", "left", "It moves left."),
    Question("order", "what happens first?", "it grows", "First it grows."),
    Question("colour", "what colour is it?", "blue", "It is blue."),
)


def scene(x: float = 24.0, direction: str = "left") -> Scene:
    return Scene((Item("circle", "red", diameter=18.0, x=x, y=24.0),), "black", Move(direction, path=20.0))


def backend(model: Model) -> LlavaBackend:
    tokens = model.tokens
    encoder = tokens.encode.__self__  # pyright: ignore[reportFunctionMemberAccess] - a bound method
    assert isinstance(encoder, TextTokenizer)
    return LlavaBackend(
        model.video.lm,
        model.video.projector,
        encoder,
        tokens.style,
        tokens.ids,
        tokens.num_video,
        GenerateOptions(),
    )


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
def test_labels_cover_each_answer_and_its_eos_and_nothing_else(model: Model, count: int) -> None:
    decoder = backend(model)
    runs = supervised(model.tokens.row(ASKED[:count]))
    assert [decoder.decode(run[:-1]) for run in runs] == [
        f" {question.sentence}" for question in ASKED[:count]
    ]
    assert {run[-1] for run in runs} == {model.tokens.ids.eos}


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_row_is_the_serving_prompt_of_the_same_dialogue(model: Model, count: int) -> None:
    turns: list[Turn] = []
    for question in ASKED[:count]:
        turns += [Turn("user", question.text), Turn("assistant", question.sentence)]
    video = VideoTokens(b"", torch.zeros(tiny.P + 1, tiny.D))
    served: list[int] = []
    for part in backend(model).segments([*turns, Turn("user", "and?")], video):
        served += part.ids if isinstance(part, Tokens) else [-1] * len(part.embeds)
    row = model.tokens.row(ASKED[:count])
    begin, end = row.video_at, row.video_at + model.tokens.num_video
    trained = [*row.ids[:begin], *[-1] * (end - begin), *row.ids[end:]]
    assert trained == served[: len(trained)]
    after = served[len(trained) :]
    assert backend(model).decode(after) == "USER: and? ASSISTANT:"


def test_rows_of_a_batch_are_padded_on_the_right(model: Model) -> None:
    rows = [model.tokens.row(ASKED[:1]), model.tokens.row(ASKED)]
    batch = collate(rows, model.tokens.num_video, pad=7)
    for number, row in enumerate(rows):
        length = len(row.ids)
        assert batch.ids[number, :length].tolist() == row.ids
        assert batch.labels[number, :length].tolist() == row.labels
        assert set(batch.ids[number, length:].tolist()) <= {7}
        assert set(batch.labels[number, length:].tolist()) <= {IGNORED}
        assert batch.is_real[number].tolist() == [n < length for n in range(batch.ids.shape[1])]
        places = batch.is_video[number].nonzero().flatten().tolist()
        assert places == list(range(row.video_at, row.video_at + model.tokens.num_video))


def test_equal_texts_share_a_group() -> None:
    assert group_numbers(["a", "b", "a", "c", "b"]).tolist() == [0, 1, 0, 2, 1]


@pytest.mark.parametrize("most", [1, 2, 3])
def test_a_shuffle_always_asks_about_time(most: int) -> None:
    for seed in range(20):
        asked = questions(scene(), Random(seed))
        picked = shuffled(asked, Random(seed), most)
        assert len(picked) == most
        assert len(set(picked)) == most
        assert [q.is_temporal for q in picked].count(True) == 1


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_corpus(tmp_path_factory.mktemp("clips"), [scene(20.0 + n) for n in range(3)])


def cache_of(clips: Sequence[Path], path: Path, ticks: list[int]) -> TrunkCache:
    return build_cache(path, clips, [tiny.encoder()], 4, ticks.append)


def test_the_cache_holds_what_the_trunk_gives_for_each_clip(clips: list[Path], tmp_path: Path) -> None:
    cache = cache_of(clips, tmp_path / "a.trunk", [])
    for row, clip in enumerate(clips):
        frames = decode(clip, Sampling(num_frames=4), FrameSize(tiny.SIDE), 4).pixels
        states = tiny.encoder().trunk_states(normalise(torch.from_numpy(frames))[None])
        torch.testing.assert_close(cache.batch([row]), states, rtol=2e-3, atol=2e-3)  # kept as float16


def test_rows_come_in_the_order_asked_for(clips: list[Path], tmp_path: Path) -> None:
    cache = cache_of(clips, tmp_path / "a.trunk", [])
    mixed = cache.batch([2, 0, 1])
    for place, row in enumerate([2, 0, 1]):
        assert all(torch.equal(x[place], y[0]) for x, y in zip(mixed, cache.batch([row]), strict=True))


def test_a_finished_cache_is_not_computed_again(clips: list[Path], tmp_path: Path) -> None:
    ticks: list[int] = []
    first = cache_of(clips, tmp_path / "a.trunk", ticks).batch([0, 1, 2])
    again = cache_of([Path("gone.mp4")] * 3, tmp_path / "a.trunk", ticks).batch([0, 1, 2])
    torch.testing.assert_close(again, first, rtol=0, atol=0)
    assert ticks == [3]


def test_one_cache_holds_what_all_models_of_a_tower_read(clips: list[Path], tmp_path: Path) -> None:
    tower = tiny.tower()
    models = [tiny.trained(config, tower) for config in tiny.TEMPORAL.values()]
    cache = build_cache(tmp_path / "a.trunk", clips, models, 4, [].append)
    assert cache.numbers == (0, 3, 4, 5)
    frames = [decode(clip, Sampling(num_frames=4), FrameSize(tiny.SIDE), 4).pixels for clip in clips]
    pixels = torch.stack([normalise(torch.from_numpy(each)) for each in frames])
    for model in models:
        states = cache.batch([0, 1, 2], model.reads)
        torch.testing.assert_close(states, model.trunk_states(pixels), rtol=2e-3, atol=2e-3)
        found, expected = model.chat_from_trunk(cache.batch([2], model.chat_reads)), model.chat(pixels[2:])
        error = (found.trunk - expected.trunk).abs().max() / expected.trunk.abs().max()
        assert error < 1e-2


def test_a_state_that_is_not_cached_is_refused(clips: list[Path], tmp_path: Path) -> None:
    cache = cache_of(clips, tmp_path / "a.trunk", [])
    with pytest.raises(InvalidValueError, match=r"reads is \[0\]; allowed: \(3, 4, 5\), as cached") as caught:
        cache.batch([0], range(1))
    assert caught.value.param == "reads"


def test_a_cache_of_something_else_is_refused(clips: list[Path], tmp_path: Path) -> None:
    cache_of(clips, tmp_path / "a.trunk", [])
    with pytest.raises(
        InvalidValueError, match=r"a\.trunk has \d+ bytes; allowed: \d+, of \(3, 3, 8, 10, 32\)"
    ):
        build_cache(tmp_path / "a.trunk", clips, [tiny.encoder()], 8, [].append)


def test_a_twins_states_are_the_states_in_reverse(clips: list[Path], tmp_path: Path) -> None:
    twin = write_corpus(tmp_path / "twin", [scene(20.0, OPPOSITE["left"])])
    cache = cache_of([clips[0], twin[0]], tmp_path / "a.trunk", [])
    for x in cache.batch([0, 1]):
        torch.testing.assert_close(x[1], x[0].flip(0), rtol=2e-3, atol=2e-3)
