import subprocess
import sys

import numpy as np
import pytest

from bt_model.video.sample import uniform
from lab.shapes import events
from lab.shapes.paint import paint_clip
from lab.shapes.scene import BACKGROUNDS, COLOURS, SHAPES, TEXTURES, Scene, SceneItem
from lab.shapes.splits import scenes
from tests.lab.shapes.pixels import Frame, area, centre, of_colour, runs, scene_of

CHAT_INDICES = uniform(32, 8)  # of 32 frames, as the chat path samples them
MOVING = [kind for kind in events.KINDS if kind != events.Still.kind]


def varied(kind: str, count: int, seed: int) -> list[Scene]:
    return scenes("train", count, seed, kinds=[kind], most_items=3, textures=True, diagonals=True)


def centres(clip: Frame) -> np.ndarray:
    """(F,S,S,3) -> (F,2)."""
    return np.array([centre(of_colour(frame, "red")) for frame in clip])


def test_a_clip_is_32_square_rgb_frames() -> None:
    clip = paint_clip(scene_of(events.Still()), side=96)
    assert clip.shape == (32, 96, 96, 3)
    assert clip.dtype == np.uint8


@pytest.mark.parametrize("kind", MOVING)
@pytest.mark.parametrize("num_frames", [32, 64])
def test_twins_hold_the_same_frames_in_another_order(kind: str, num_frames: int) -> None:
    for scene in varied(kind, 3, seed=2):
        clip, twin = (paint_clip(each, num_frames=num_frames) for each in (scene, scene.twin()))
        frames, twin_frames = ([frame.tobytes() for frame in frames] for frames in (clip, twin))
        assert sorted(frames) == sorted(twin_frames)
        assert frames != twin_frames


@pytest.mark.parametrize("kind", [kind for kind in events.KINDS if kind != events.Blink.kind])
@pytest.mark.parametrize("num_frames", [32, 7])
def test_the_twin_of_what_does_not_blink_is_its_frames_backwards(kind: str, num_frames: int) -> None:
    for scene in varied(kind, 3, seed=3):
        clip, twin = (paint_clip(each, num_frames=num_frames) for each in (scene, scene.twin()))
        assert np.array_equal(twin, clip[::-1])


@pytest.mark.parametrize("kind", events.KINDS)
@pytest.mark.parametrize("frames", [CHAT_INDICES, list(range(32))])
def test_a_scene_knows_which_sampled_frame_stands_where_in_its_twin(kind: str, frames: list[int]) -> None:
    for scene in varied(kind, 3, seed=4):
        sampled, twin = (paint_clip(each)[frames] for each in (scene, scene.twin()))
        assert np.array_equal(twin, sampled[scene.twin_frames(frames)])


@pytest.mark.parametrize("direction", events.DIRECTIONS + events.DIAGONALS)
def test_a_move_goes_its_path_in_its_direction(direction: str) -> None:
    path = centres(paint_clip(scene_of(events.Move(direction, path=20.0))))
    assert path[-1] - path[0] == pytest.approx(20 * np.array(events.STEPS[direction]), abs=0.5)
    assert path.mean(axis=0) == pytest.approx((24, 26), abs=0.3)


def test_a_move_is_as_fast_at_the_end_as_at_the_start() -> None:
    x = centres(paint_clip(scene_of(events.Move("right", path=28.0))))[:, 0]
    assert x[15] - x[0] == pytest.approx(x[31] - x[16], abs=0.8)


@pytest.mark.parametrize("direction", events.DIRECTIONS)
def test_what_speeds_up_goes_a_quarter_of_its_way_in_the_first_half(direction: str) -> None:
    path = centres(paint_clip(scene_of(events.Pace("speed up", direction, path=28.0))))
    along = (path - path[0]) @ np.array(events.STEPS[direction])
    assert along[-1] == pytest.approx(28, abs=0.5)
    assert (along[15] + along[16]) / 2 == pytest.approx(7, abs=0.5)


def test_what_slows_down_stops_at_the_end_of_its_way() -> None:
    x = centres(paint_clip(scene_of(events.Pace("slow down", "right", path=28.0))))[:, 0]
    assert x[-1] - x[0] == pytest.approx(28, abs=0.5)
    assert x[4] - x[0] > 5
    assert x[31] - x[27] < 1


def test_what_appears_is_absent_for_the_first_frames_only() -> None:
    clip = paint_clip(scene_of(events.Change("appear", absent=10)))
    assert [area(frame) > 0 for frame in clip] == [False] * 10 + [True] * 22


def test_what_disappears_is_absent_for_the_last_frames_only() -> None:
    clip = paint_clip(scene_of(events.Change("disappear", absent=10)))
    assert [area(frame) > 0 for frame in clip] == [True] * 22 + [False] * 10


@pytest.mark.parametrize("shape", SHAPES)
def test_what_grows_by_its_diameter_ends_nine_times_as_large(shape: str) -> None:
    clip = paint_clip(scene_of(events.Resize("grow", share=1.0), shape, diameter=18.0), side=224)
    areas = [area(frame) for frame in clip]
    assert areas == sorted(areas)
    assert areas[-1] / areas[0] == pytest.approx(9, rel=0.15)


def test_what_shrinks_becomes_smaller_frame_by_frame_about_its_centre() -> None:
    clip = paint_clip(scene_of(events.Resize("shrink", share=0.8), diameter=18.0))
    areas = [area(frame) for frame in clip]
    assert areas == sorted(areas, reverse=True)
    assert areas[0] > 4 * areas[-1]
    assert np.abs(centres(clip) - [24, 26]).max() < 0.4


def test_a_colour_changes_at_its_frame_and_nothing_else_does() -> None:
    clip = paint_clip(scene_of(events.Recolour("cyan", at=12)))
    assert [area(frame, "red") > 0 for frame in clip] == [True] * 12 + [False] * 20
    assert np.array_equal(of_colour(clip[0], "red"), of_colour(clip[-1], "cyan"))


@pytest.mark.parametrize("beats", ["10000111", "01101010", "11001001"])
def test_a_blinking_item_is_there_for_the_beats_that_say_so(beats: str) -> None:
    clip = paint_clip(scene_of(events.Blink(beats, "10100101")))
    assert "".join("01"[area(frame) > 0] for frame in clip[::4]) == beats
    assert all(length % 4 == 0 for _, length in runs([area(frame) > 0 for frame in clip]))


def test_an_item_is_gone_as_often_as_it_blinks() -> None:
    for scene in scenes("train", 40, seed=5, kinds=["count"]):
        clip = paint_clip(scene)
        shown = [(frame != BACKGROUNDS[scene.background]).any() for frame in clip]
        assert isinstance(scene.event, events.Blink)
        assert sum(not value for value, _ in runs([bool(value) for value in shown])) == scene.event.count


@pytest.mark.parametrize(("word", "sense"), [("clockwise", 1), ("counterclockwise", -1)])
def test_a_bar_turns_its_way_by_its_degrees(word: str, sense: int) -> None:
    clip = paint_clip(scene_of(events.Rotate(word, degrees=80, middle=45), "bar", diameter=24.0), side=224)
    leanings: list[float] = []
    for frame in clip:
        rows, columns = np.nonzero(of_colour(frame, "red"))
        cov = np.cov(columns, rows)
        leanings.append(float(np.rad2deg(0.5 * np.arctan2(2 * cov[0, 1], cov[0, 0] - cov[1, 1]))))
    assert leanings == pytest.approx(45 + sense * np.linspace(-40, 40, 32), abs=1)


@pytest.mark.parametrize("shape", ["square", "triangle", "cross", "bar"])
def test_a_turn_changes_the_picture_but_not_the_place_nor_the_size(shape: str) -> None:
    clip = paint_clip(
        scene_of(events.Rotate("clockwise", degrees=90, middle=30), shape, diameter=20.0), side=224
    )
    areas = [area(frame) for frame in clip]
    assert max(areas) - min(areas) < 0.02 * max(areas)
    assert np.ptp(centres(clip), axis=0).max() < 0.3
    changed = [
        (of_colour(a, "red") ^ of_colour(b, "red")).sum() for a, b in zip(clip, clip[4:], strict=False)
    ]
    assert min(changed) > 0.04 * max(areas)


def happens(name: str, frame: Frame, rest: Frame) -> bool:
    if not area(frame):
        return name == "blink"
    (x, y), (rest_x, rest_y) = (centre(of_colour(each, "red")) for each in (frame, rest))
    return {
        "blink": False,
        "grow": area(frame) > 1.5 * area(rest),
        "jump": rest_y - y > 4,
        "sway": x - rest_x > 4,
    }[name]


@pytest.mark.parametrize("first", events.PULSES)
@pytest.mark.parametrize("second", events.PULSES)
@pytest.mark.parametrize("width", [12, 14])
@pytest.mark.parametrize("margin", [0, 2])
def test_sampled_frames_show_each_event_in_its_half_only(
    first: str, second: str, width: int, margin: int
) -> None:
    if first == second:
        return
    clip = paint_clip(
        scene_of(events.PulsePair(events.Pulse(first, margin, width), events.Pulse(second, margin, width)))
    )
    rest = paint_clip(scene_of(events.Still()))[0]
    shown = {name: [i for i in CHAT_INDICES if happens(name, clip[i], rest)] for name in events.PULSES}
    assert shown[first]
    assert max(shown[first]) < 16 <= min(shown[second])
    assert not any(shown[name] for name in events.PULSES if name not in {first, second})


def test_a_pulse_is_as_far_from_the_end_as_from_the_start() -> None:
    early = paint_clip(scene_of(events.PulsePair(events.Pulse("jump", 1, 12), events.Pulse("sway", 0, 12))))
    late = paint_clip(scene_of(events.PulsePair(events.Pulse("blink", 0, 12), events.Pulse("jump", 1, 12))))
    assert np.array_equal(early[:16], late[:15:-1])


@pytest.mark.parametrize("kind", events.KINDS)
def test_items_stay_inside_the_picture(kind: str) -> None:
    for scene in scenes("train", 25, seed=5, kinds=[kind], most_items=3, diagonals=True):
        clip = paint_clip(scene)
        border = np.concatenate([clip[:, 0], clip[:, -1], clip[:, :, 0], clip[:, :, -1]], axis=1)
        assert (border == BACKGROUNDS[scene.background]).all()


def test_shapes_differ_in_a_fifth_of_their_pixels() -> None:
    masks = {}
    for shape in SHAPES:  # at the smallest diameter of an item that does not change its size
        scene = Scene((SceneItem(shape, "red", 10.5, 24.0, 24.0),), "black", events.Still())
        masks[shape] = paint_clip(scene)[0][..., 0] > 100
    for a in SHAPES:
        for b in SHAPES[: SHAPES.index(a)]:
            assert (masks[a] ^ masks[b]).sum() > 0.2 * (masks[a] | masks[b]).sum(), (a, b)


def test_item_and_background_colours_are_well_separated() -> None:
    colours = np.array([*COLOURS.values(), *BACKGROUNDS.values()], float)
    distances = np.linalg.norm(colours[:, None] - colours[None], axis=-1)
    np.fill_diagonal(distances, np.inf)
    assert distances.min() > 80


@pytest.mark.parametrize("texture", TEXTURES[1:])
@pytest.mark.parametrize("background", BACKGROUNDS)
def test_a_texture_is_seen_but_leaves_the_background_its_name(texture: str, background: str) -> None:
    item = SceneItem("ring", "red", 14.0, 24.0, 24.0)
    plain, scene = (Scene((item,), background, events.Still(), name) for name in ("plain", texture))
    ground = np.ones((64, 64), bool)
    ground[20:44, 20:44] = False
    shown = paint_clip(scene)[0][ground].astype(float)
    names = COLOURS | BACKGROUNDS
    nearest = np.linalg.norm(shown[:, None] - np.array(list(names.values()), float), axis=-1).argmin(axis=1)
    assert {list(names)[i] for i in nearest} == {background}
    assert np.abs(shown.mean(axis=0) - paint_clip(plain)[0][0, 0]).max() < 16
    assert np.ptp(shown, axis=0).max() > 15


def test_textures_differ_from_each_other() -> None:
    clips = [
        paint_clip(Scene((SceneItem("ring", "red", 14.0, 24.0, 24.0),), "gray", events.Still(), t))
        for t in TEXTURES
    ]
    for i, clip in enumerate(clips):
        for other in clips[:i]:
            assert (clip[0] != other[0]).any(axis=-1).mean() > 0.1


def test_a_larger_side_shows_the_same_scene() -> None:
    for scene in scenes("train", 18, seed=6, most_items=3):
        large = paint_clip(scene, side=128).reshape(32, 64, 2, 64, 2, 3).mean(axis=(2, 4))
        assert np.abs(large - paint_clip(scene)).mean() < 1.0


_DIGEST = """
import hashlib
from lab.shapes.cues import paint_pictures
from lab.shapes.paint import paint_clip
from lab.shapes.splits import scenes
drawn = scenes("train", 18, seed=7, most_items=3, textures=True, diagonals=True)
digest = hashlib.sha256(paint_pictures(drawn).tobytes())
for scene in drawn:
    digest.update(scene.to_json().encode() + paint_clip(scene).tobytes())
print(digest.hexdigest())
"""


def test_another_process_draws_and_paints_the_same() -> None:
    digests = {
        subprocess.run(
            [sys.executable, "-c", _DIGEST],
            env={"PYTHONPATH": ":".join(sys.path), "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(digests) == 1


def test_a_bystander_is_the_same_in_every_frame() -> None:
    for scene in scenes("train", 27, seed=8, most_items=3):
        clip = paint_clip(scene)
        for item in scene.items[1:]:
            low_x, low_y = (int((at - item.diameter / 2) * 64 / 48) for at in (item.x, item.y))
            high_x, high_y = (int((at + item.diameter / 2) * 64 / 48) + 1 for at in (item.x, item.y))
            shown = clip[:, low_y:high_y, low_x:high_x]
            assert (shown == shown[0]).all()
            assert area(shown[0], item.colour) > 20


def test_a_clip_of_any_number_of_frames_starts_and_ends_alike() -> None:
    scene = scene_of(events.Move("right", path=20.0))
    assert np.array_equal(paint_clip(scene, num_frames=2), paint_clip(scene)[[0, events.NUM_FRAMES - 1]])
