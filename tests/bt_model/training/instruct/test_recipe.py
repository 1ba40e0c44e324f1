"""What is asked of a decoder for a video, and what a batch is made of."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from bt_model.backends.llava import special_ids
from bt_model.decoding.child import read_frames
from bt_model.prompt.templates import template
from bt_model.prompt.tokenizer import TextTokenizer
from bt_model.training.data.clip_list import ClipSource
from bt_model.training.data.dialogues import Exchange, VideoDialogue, pack_dialogues
from bt_model.training.data.sampling import SampleOrder
from bt_model.training.data.spelling import Speller
from bt_model.training.instruct.recipe import DialogueRecipe, Framing
from bt_model.training.instruct.settings import InstructData
from bt_model.types import FrameSize, ResizeMode, Sampling, Strategy
from bt_model.video.decode import decode
from bt_model.video.sample import choose_frames
from tests import tiny
from tests.clips import ClipSpec, numbers_in, write_clip

SIDE = 32


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty frames, each of which shows its number."""
    return write_clip(
        tmp_path_factory.mktemp("clips") / "a.mp4", ClipSpec(num_frames=20, width=96, height=64)
    )


def read(clip: Path, framing: Framing) -> NDArray[np.uint8]:
    with clip.open("rb") as file:
        return read_frames(file, framing.request(ClipSource(str(clip))))[0].pixels


@pytest.mark.parametrize("fit", ["crop", "squash", "pad"])
def test_without_a_short_side_frames_are_those_of_serving(clip: Path, fit: ResizeMode) -> None:
    framing = Framing.of(InstructData(frames=4), SIDE, fit)
    expected = decode(clip, Sampling(num_frames=4), FrameSize(SIDE, fit), 4).pixels
    assert np.array_equal(read(clip, framing), expected)


def test_with_a_short_side_the_middle_of_the_scaled_frame_is_cut_out(clip: Path) -> None:
    framing = Framing.of(InstructData(frames=4, short_side=48), SIDE, "squash")
    whole = decode(clip, Sampling(num_frames=4), FrameSize(48, "whole"), 4).pixels
    assert whole.shape == (4, 48, 72, 3)
    found = read(clip, framing)
    assert np.array_equal(found, whole[:, 8:40, 20:52])


@pytest.mark.parametrize(("strategy", "count"), [("uniform", 20), ("middle", 40)])
def test_only_the_published_sampler_repeats_frames_of_a_short_video(
    clip: Path, strategy: Strategy, count: int
) -> None:
    framing = Framing.of(InstructData(frames=40, strategy=strategy), 64, "crop")
    numbers = numbers_in(read(clip, framing))
    assert numbers == list(choose_frames(20, Sampling(40, strategy=strategy), 25, 40).indices)
    assert len(numbers) == count


@pytest.mark.parametrize("features", ["", "there"])
def test_a_batch_has_room_for_the_tokens_of_the_frames_that_were_read(features: str, tmp_path: Path) -> None:
    tiny.write_tokenizers(tmp_path)
    tokenizer = TextTokenizer(tmp_path / "chat.json")
    speller = Speller(template("plain"), special_ids(tokenizer, template("plain")), tokenizer.encode)
    data = InstructData(features=features)
    recipe = DialogueRecipe(
        data, SampleOrder(3, 2, 1, 0), Framing.of(data, SIDE, "crop"), speller, lambda frames: 10 * frames
    )
    dialogues = [VideoDialogue(name, (Exchange(f"{name}?", f"{name}!"),)) for name in "abc"]
    arrays = [np.zeros((1, count, 2, 2) if features else (count, 2, 2, 3), np.uint8) for count in (3, 5)]
    batch = recipe.batch(pack_dialogues(dialogues, {}, tmp_path), range(2), [2, 0], arrays, num_skipped=4)
    assert batch.tokens.is_video.sum(dim=1).tolist() == [30, 50]
    assert [video.shape for video in batch.videos] == [array.shape for array in arrays]
    answers = [tokenizer.decode([i for i in row[:-1] if i >= 0]) for row in batch.tokens.labels.tolist()]
    assert [text.strip("\x00")[:2] for text in answers] == [" c", " a"]
    assert batch.num_skipped == 4
