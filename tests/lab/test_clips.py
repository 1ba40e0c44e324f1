"""Clips with their twins, out of one cache."""

from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch

from bt_model.video.sample import uniform
from lab.clips import CachedClips, load_clips
from lab.shapes.events import KINDS
from lab.shapes.paint import paint_clip
from lab.shapes.splits import scenes
from tests import tiny

READS = range(2, 4)


@pytest.fixture
def clips(tmp_path: Path) -> CachedClips:
    return tiny.cached_clips(tmp_path, num_scenes=6, num_frames=4)


def test_a_batch_holds_each_drawn_clip_and_its_twin(clips: CachedClips) -> None:
    reads = tiny.encoder().reads
    drawn = clips.draw(4, Random(0), reads)
    assert drawn.scenes[2:] == [scene.twin() for scene in drawn.scenes[:2]]
    cached = clips.cache.batch([clips.scenes.index(scene) for scene in drawn.scenes[:2]], reads)
    assert torch.equal(drawn.clips[:2], cached)
    assert torch.equal(drawn.clips[2:], cached.flip(2))


@pytest.mark.parametrize("num_frames", [8, 16])
@pytest.mark.parametrize("kind", KINDS)
def test_a_twins_states_are_its_own_clips(tmp_path: Path, kind: str, num_frames: int) -> None:
    drawn = scenes("train", 3, seed=5, kinds=[kind])
    model = tiny.encoder()
    both = [
        load_clips(tmp_path, name, some, [model], num_frames)
        for name, some in (("clips", drawn), ("twins", [scene.twin() for scene in drawn]))
    ]
    twins = both[0].twins(both[0].batch(range(3), model.reads)).clips
    own = both[1].cache.batch(range(3), model.reads)
    torch.testing.assert_close(twins, own, rtol=1e-3, atol=1e-3)


def test_what_the_twin_shows_is_what_is_painted() -> None:
    frames = uniform(32, 8)
    for scene in scenes("train", 18, seed=6):
        clip, twin = (paint_clip(each)[frames] for each in (scene, scene.twin()))
        assert np.array_equal(twin, clip[scene.twin_frames(frames)])


def test_only_the_states_asked_for_are_read(clips: CachedClips) -> None:
    reads = tiny.encoder().reads
    part = range(reads.start, reads.start + 1)
    some = clips.batch([0, 1], part)
    assert torch.equal(some.clips, clips.cache.batch([0, 1], reads)[:, :1])
    assert torch.equal(clips.twins(some).clips, some.clips.flip(2))
