from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bt_model.types import FrameSize, Sampling
from bt_model.video.decode import decode, probe
from lab.shapes.clip_file import film, footage_of, write_clip, write_video
from lab.shapes.events import Move, Pace, Still
from lab.shapes.paint import paint_clip
from lab.shapes.splits import scenes
from tests.lab.shapes.pixels import centre, of_colour, scene_of


def test_footage_comes_in_many_sizes_and_turns() -> None:
    every = [footage_of(scene, 64) for scene in scenes("test", 60, seed=1)]
    assert {each.rotation for each in every} == {0, 90, 180, 270}
    assert len({(each.width, each.height) for each in every}) > 40
    assert any(each.width % 2 or each.height % 2 for each in every)
    assert all(48 <= min(each.width, each.height) == each.painted_side <= 96 for each in every)


def test_twins_are_filmed_alike() -> None:
    for scene in scenes("test", 18, seed=2):
        assert footage_of(scene, 64) == footage_of(scene.twin(), 64)


def test_film_is_stored_in_even_sizes_that_cover_what_is_shown() -> None:
    footage = replace(footage_of(scene_of(Still()), 64), painted_side=51, width=67, height=51, rotation=90)
    assert film(scene_of(Still()), footage).shape == (120, 68, 52, 3)


def test_film_without_its_noise_is_the_painted_clip_between_background() -> None:
    scene = scene_of(Move("right", path=20.0))
    footage = replace(footage_of(scene, 64), painted_side=50, width=66, height=50, rotation=0)
    filmed = film(scene, footage).astype(int)
    painted = paint_clip(scene, side=50, num_frames=120).astype(int)
    noise = filmed[:, :, 8:58] - painted
    assert np.abs(noise).max() < 40
    assert 2 < noise.std() < 6
    assert filmed[:, :, :8].max() < 40


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_a_player_shows_turned_footage_upright(tmp_path: Path, rotation: int) -> None:
    scene = scene_of(Move("right", path=20.0))
    footage = replace(footage_of(scene, 64), painted_side=64, width=80, height=64, rotation=rotation)
    path = tmp_path / "a.mp4"
    write_video(path, film(scene, footage), codec="default", fps=footage.fps, rotation=rotation)
    shown = decode(path, Sampling(num_frames=8), FrameSize(64, "crop"), 8)
    (x0, y0), (x1, y1) = (centre(of_colour(frame, "red")) for frame in shown.pixels[[0, -1]])
    assert x1 - x0 == pytest.approx(17.5, abs=1.5)
    assert (y0, y1) == pytest.approx((26, 26), abs=1)


def test_a_clip_in_the_default_codec_is_an_ordinary_video(tmp_path: Path) -> None:
    (scene,) = scenes("test", 1, seed=3, kinds=["pace"])
    footage = footage_of(scene, 64)
    write_clip(tmp_path / "a.mp4", scene, codec="default")
    facts = probe(tmp_path / "a.mp4")
    assert isinstance(scene.event, Pace)
    assert (facts.num_frames, facts.fps) == (120, 30)
    odd = footage.width % 2, footage.height % 2
    assert (facts.width, facts.height) == (footage.width + odd[0], footage.height + odd[1])


def test_decoded_footage_shows_what_the_clip_shows(tmp_path: Path) -> None:
    for i, scene in enumerate(scenes("test", 9, seed=4, most_items=3, textures=True)):
        write_clip(tmp_path / f"{i}.mp4", scene, codec="default")
        seen = decode(tmp_path / f"{i}.mp4", Sampling(num_frames=8), FrameSize(64, "crop"), 8)
        painted = paint_clip(scene, num_frames=120)[list(seen.indices)]
        assert np.abs(seen.pixels.astype(int) - painted).mean() < 12
