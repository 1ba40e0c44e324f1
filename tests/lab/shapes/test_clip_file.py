import json
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest

from bt_model.errors import InvalidValueError
from bt_model.types import FrameSize, Sampling
from bt_model.video.decode import decode, probe
from lab.shapes.clip_file import film, footage_of, sample_clip, write_clip, write_corpus, write_video
from lab.shapes.events import KINDS, Change, Move, Pace, Still
from lab.shapes.paint import Pixels, paint_clip
from lab.shapes.scene import BACKGROUNDS, COLOURS
from lab.shapes.splits import is_held_out, scenes
from tests.lab.shapes.hand_drawn import read_scene
from tests.lab.shapes.pixels import centre, of_colour, scene_of

SIZE = FrameSize(64, "crop")


def read(path: Path) -> Pixels:
    with av.open(str(path)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    return np.stack(frames).astype(np.uint8)


def test_a_decoded_clip_has_every_frame_at_8_per_second(tmp_path: Path) -> None:
    write_clip(tmp_path / "a.mp4", scenes("train", 1, seed=1)[0])
    with av.open(str(tmp_path / "a.mp4")) as container:
        times = [frame.time for frame in container.decode(video=0)]
    assert times == [i / 8 for i in range(32)]


@pytest.mark.parametrize("kind", KINDS)
def test_sampled_frames_of_decoded_twins_are_the_same_in_another_order(tmp_path: Path, kind: str) -> None:
    for scene in scenes("train", 2, seed=2, kinds=[kind], most_items=3, textures=True, diagonals=True):
        write_clip(tmp_path / "a.mp4", scene)
        write_clip(tmp_path / "b.mp4", scene.twin())
        frames, twin = (
            decode(tmp_path / name, Sampling(num_frames=8), SIZE, 8) for name in ("a.mp4", "b.mp4")
        )
        assert np.array_equal(twin.pixels, frames.pixels[scene.twin_frames([2, 6, 10, 14, 17, 21, 25, 29])])
        assert np.array_equal(twin.pixels, frames.pixels) == (kind == Still.kind)


@pytest.mark.parametrize("kind", KINDS)
def test_decoded_twins_hold_the_same_frames(tmp_path: Path, kind: str) -> None:
    for scene in scenes("train", 2, seed=2, kinds=[kind], most_items=3, textures=True, diagonals=True):
        write_clip(tmp_path / "a.mp4", scene)
        write_clip(tmp_path / "b.mp4", scene.twin())
        order = scene.twin_frames(list(range(32)))
        assert np.array_equal(read(tmp_path / "b.mp4"), read(tmp_path / "a.mp4")[order])


def test_coding_keeps_the_picture(tmp_path: Path) -> None:
    for scene in scenes("train", 9, seed=3, most_items=3, textures=True):
        write_clip(tmp_path / "a.mp4", scene)
        assert np.abs(read(tmp_path / "a.mp4").astype(int) - paint_clip(scene)).mean() < 4


def test_coding_keeps_every_colour_nearest_to_its_own_name(tmp_path: Path) -> None:
    names = COLOURS | BACKGROUNDS
    palette = np.array(list(names.values()), float)
    for scene in scenes("train", 16, seed=4, kinds=["still"]):
        write_clip(tmp_path / "a.mp4", scene)
        painted, decoded = paint_clip(scene)[0], read(tmp_path / "a.mp4")[0]
        for name in (scene.actor.colour, scene.background):
            coded = decoded[(painted == names[name]).all(axis=-1)].mean(axis=0)
            assert list(names)[np.linalg.norm(palette - coded, axis=1).argmin()] == name


@pytest.mark.parametrize("codec", ["exact", "default"])
def test_the_sidecar_holds_the_scene(tmp_path: Path, codec: str) -> None:
    for scene in scenes("train", 9, seed=5, most_items=3, textures=True):
        write_clip(tmp_path / "a.mp4", scene, codec=codec)
        assert read_scene(tmp_path / "a.mp4") == scene
        facts = json.loads((tmp_path / "a.json").read_text())
        assert (facts["side"], facts["codec"]) == (64, codec)


def test_an_odd_side_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidValueError, match=r"side is \(47, 47\); allowed: even"):
        write_video(tmp_path / "a.mp4", np.zeros((2, 47, 47, 3), np.uint8))


def test_an_unknown_codec_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(InvalidValueError, match="codec is 'prores'; allowed: one of exact, default"):
        write_clip(tmp_path / "a.mp4", scenes("train", 1, seed=5)[0], codec="prores")


def test_a_corpus_lists_its_clips_in_the_scenes_order(tmp_path: Path) -> None:
    drawn = scenes("train", 9, seed=6)
    assert [read_scene(path) for path in write_corpus(tmp_path, drawn)] == drawn


def test_a_corpus_leaves_nothing_unfinished(tmp_path: Path) -> None:
    paths = write_corpus(tmp_path, scenes("train", 4, seed=6))
    assert set(tmp_path.iterdir()) == {*paths, *(path.with_suffix(".json") for path in paths)}


def test_a_second_run_writes_nothing(tmp_path: Path) -> None:
    drawn = scenes("train", 4, seed=7)
    before = {path: path.stat().st_mtime_ns for path in write_corpus(tmp_path, drawn)}
    assert {path: path.stat().st_mtime_ns for path in write_corpus(tmp_path, drawn)} == before


def test_a_clip_without_its_sidecar_is_written_again(tmp_path: Path) -> None:
    drawn = scenes("train", 3, seed=8)
    paths = write_corpus(tmp_path, drawn, side=48)
    paths[1].write_bytes(b"half a clip")
    paths[1].with_suffix(".json").unlink()
    write_corpus(tmp_path, drawn, side=48)
    assert read(paths[1]).shape == (32, 48, 48, 3)


def test_sizes_and_codecs_share_a_folder_but_no_file(tmp_path: Path) -> None:
    drawn = scenes("train", 1, seed=8)
    paths = {
        write_corpus(tmp_path, drawn, side=side, codec=codec)[0]
        for side in (48, 64)
        for codec in ("exact", "default")
    }
    assert len(paths) == 4


def test_progress_counts_what_was_there_before(tmp_path: Path) -> None:
    drawn = scenes("train", 5, seed=9)
    write_corpus(tmp_path, drawn[:2])
    counts: list[int] = []
    write_corpus(tmp_path, drawn, progress=counts.append)
    assert counts == [3, 4, 5]


@pytest.mark.parametrize("codec", ["exact", "default"])
def test_several_processes_write_the_same_files_as_one(tmp_path: Path, codec: str) -> None:
    drawn = scenes("train", 18, seed=10)
    alone = write_corpus(tmp_path / "alone", drawn, codec=codec)
    together = write_corpus(tmp_path / "together", drawn, workers=2, codec=codec)
    assert [path.read_bytes() for path in alone] == [path.read_bytes() for path in together]


def test_the_sample_clip_is_the_same_every_time(tmp_path: Path) -> None:
    sample_clip(tmp_path / "a.mp4")
    sample_clip(tmp_path / "b.mp4")
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


def test_the_sample_clip_is_an_event_that_training_never_shows(tmp_path: Path) -> None:
    scene = sample_clip(tmp_path / "a.mp4")
    assert isinstance(scene.event, Change)
    assert is_held_out(scene)


def test_the_sample_clip_looks_like_the_corpus_at_its_size(tmp_path: Path) -> None:
    scene = sample_clip(tmp_path / "a.mp4")
    frames = read(tmp_path / "a.mp4").reshape(64, 48, 2, 48, 2, 3).mean(axis=(2, 4))
    assert np.abs(frames - paint_clip(scene, side=48, num_frames=64)).mean() < 2


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
        decoded = decode(tmp_path / f"{i}.mp4", Sampling(num_frames=8), FrameSize(64, "crop"), 8)
        painted = paint_clip(scene, num_frames=120)[list(decoded.indices)]
        assert np.abs(decoded.pixels.astype(int) - painted).mean() < 12
