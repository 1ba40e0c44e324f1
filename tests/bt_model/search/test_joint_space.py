"""Windows and texts in the joint space: the branch's embedding of each window, and one trunk pass a frame."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize
from transformers import CLIPModel
from transformers.modeling_outputs import BaseModelOutputWithPooling

from bt_model.errors import InvalidValueError
from bt_model.search.joint_space import BANK_SCALE, JointSpace
from bt_model.search.loading import load_joint_space
from bt_model.search.windows import WindowPlan
from bt_model.text.clip_text import ClipTextTower
from bt_model.types import FrameSize
from bt_model.video.transform import normalise
from tests import tiny
from tests.bt_model.search.folders import write_clip_folder

PLAN = WindowPlan(length=4, stride=1)
EXACT = 1e-6  # of unit rows; products of other sizes are summed in another order


@pytest.fixture(scope="module")
def space(tiny_weights: Path) -> JointSpace:
    return load_joint_space("embedded-zeroshot", tiny_weights, device="cpu")


def film(num_frames: int, seed: int = 0) -> Tensor:
    """Frames (T, H, W, 3) uint8."""
    return tiny.clips(1, num_frames, seed)[0]


def alone(space: JointSpace, window: Tensor) -> Tensor:
    """The slow definition: these frames as a clip of their own. -> (E,)"""
    return normalize(tiny.retrieve(space.encoder, normalise(window)[None]), dim=1)[0]


def assert_equal(ours: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(ours, expected, rtol=0, atol=EXACT)


@pytest.mark.parametrize("stride", [1, 3])
def test_a_window_is_embedded_as_its_frames_alone(space: JointSpace, stride: int) -> None:
    frames = film(41)
    rows = space.embed_windows(frames, 4, stride)
    expected = [alone(space, frames[begin : begin + 4]) for begin in range(0, 41 - 3, stride)]
    assert_equal(rows, torch.stack(expected))


@pytest.mark.parametrize("kind", ["stan", "separate_st", "joint_st", "st_adapter", "clip"])
def test_other_temporal_models_embed_windows_too(space: JointSpace, kind: str) -> None:
    other = replace(space, encoder=tiny.trained(tiny.TEMPORAL[kind]))
    frames = film(12)
    expected = [alone(other, frames[begin : begin + 4]) for begin in range(9)]
    assert_equal(other.embed_windows(frames, 4, 1), torch.stack(expected))


def test_embeddings_do_not_depend_on_how_a_film_is_cut_into_chunks(space: JointSpace) -> None:
    seconds = 150.0
    frames = torch.cat([film(100, seed) for seed in range(3)])
    chunks = list(PLAN.chunks(seconds))
    assert len(chunks) == 3
    pieces = [frames[chunk.first_frame :][: chunk.num_frames] for chunk in chunks]
    rows = torch.cat([space.embed_windows(piece, PLAN.length, PLAN.stride) for piece in pieces])
    assert len(rows) == PLAN.num_windows(seconds)
    expected = [alone(space, frames[begin : begin + PLAN.length]) for begin in range(len(rows))]
    assert_equal(rows, torch.stack(expected))


def test_a_frame_passes_the_trunk_once_however_many_windows_hold_it(space: JointSpace) -> None:
    passed: list[int] = []
    hook = space.encoder.tower.register_forward_pre_hook(lambda _, args: passed.append(len(args[0])))
    space.embed_windows(film(40), 8, 1)
    hook.remove()
    assert passed == [40]


def test_fewer_frames_than_a_window_are_one_window(space: JointSpace) -> None:
    frames = film(3)
    assert_equal(space.embed_windows(frames, 8, 1), alone(space, frames)[None])


def test_the_order_of_frames_matters(space: JointSpace) -> None:
    frames = film(4)
    rows = torch.cat([space.embed_windows(each, 4, 1) for each in (frames, frames.flip(0))])
    assert float((rows[0] - rows[1]).abs().max()) > 20 * EXACT


@pytest.mark.parametrize(
    ("num_frames", "length", "stride", "message"),
    [
        (0, 4, 1, "frames is 0; allowed: 1 to 128"),
        (129, 4, 1, "frames is 129; allowed: 1 to 128"),
        (8, 17, 1, "length is 17; allowed: 1 to 16"),  # twice what the branch has time embeddings for
        (8, 4, 5, "stride is 5; allowed: 1 to 4"),
    ],
)
def test_windows_that_the_model_cannot_represent_are_refused(
    space: JointSpace, num_frames: int, length: int, stride: int, message: str
) -> None:
    with pytest.raises(InvalidValueError, match=message):
        space.embed_windows(film(num_frames), length, stride)


def test_texts_are_unit_rows_in_their_order_however_many(space: JointSpace) -> None:
    texts = [f"a circle moves {number}" for number in range(70)]
    rows = space.embed_texts(texts)
    assert tuple(rows.shape) == (70, space.width)
    assert_equal(rows.norm(dim=1), torch.ones(70))
    assert_equal(rows[[3, 68]], space.embed_texts([texts[3], texts[68]]))


def test_no_text_gives_no_rows(space: JointSpace) -> None:
    assert tuple(space.embed_texts([]).shape) == (0, space.width)


def test_of_a_long_text_the_beginning_counts(space: JointSpace) -> None:
    assert_equal(space.embed_texts(["circle " * 500]), space.embed_texts(["circle " * 600]))


def test_a_window_is_as_common_as_the_banks_texts_are_near(space: JointSpace) -> None:
    texts = [f"a circle moves {number}" for number in range(5)]
    known = replace(space, bank=space.embed_texts(texts))
    rows = space.embed_windows(film(7), 4, 1)
    cosines = rows @ space.embed_texts(texts).T
    expected = [math.log(sum(math.exp(BANK_SCALE * float(c)) for c in row)) / BANK_SCALE for row in cosines]
    assert_equal(known.commonness(rows), torch.tensor(expected))


def test_without_a_bank_no_window_is_common(space: JointSpace) -> None:
    without = replace(space, bank=torch.zeros(0, space.width))
    assert without.commonness(space.embed_windows(film(7), 4, 1)).tolist() == [0.0] * 4


@torch.no_grad()
def test_texts_and_frames_of_a_hugging_face_folder_are_embedded_as_transformers_does(tmp_path: Path) -> None:
    path = write_clip_folder(tmp_path / "hf")
    space = load_joint_space(str(path), tmp_path, device="cpu")
    theirs = CLIPModel.from_pretrained(tmp_path / "hf" / "clip").eval()
    texts = ["a red circle moves left", "which way"]
    ids = space.tokenizer(texts, space.text.config.context_length)
    features = theirs.get_text_features(input_ids=ids)
    assert isinstance(features, BaseModelOutputWithPooling)
    assert features.pooler_output is not None
    torch.testing.assert_close(
        space.embed_texts(texts), normalize(features.pooler_output, dim=1), rtol=0, atol=1e-5
    )
    frames = film(3)
    pictures = theirs.get_image_features(pixel_values=normalise(frames))
    assert isinstance(pictures, BaseModelOutputWithPooling)
    assert pictures.pooler_output is not None
    mean = normalize(pictures.pooler_output.mean(dim=0), dim=0)
    torch.testing.assert_close(space.embed_windows(frames, 3, 1)[0], mean, rtol=0, atol=1e-5)


def test_lower_precision_stays_near(space: JointSpace) -> None:
    half = replace(
        space,
        encoder=tiny.encoder().to(torch.bfloat16),
        text=tiny.wake(ClipTextTower(space.text.config), seed=5).to(torch.bfloat16),
        frame_size=FrameSize(tiny.SIDE),
    )
    full = replace(half, encoder=tiny.encoder(), text=tiny.wake(ClipTextTower(space.text.config), seed=5))
    frames = film(12)
    for rough, exact in (
        (half.embed_windows(frames, 4, 1), full.embed_windows(frames, 4, 1)),
        (half.embed_texts(["circle"]), full.embed_texts(["circle"])),
    ):
        assert rough.dtype == torch.float32
        assert float((rough * exact).sum(dim=1).min()) > 0.99
