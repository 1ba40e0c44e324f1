import numpy as np
import pytest

from bt_model.training.corpus.cues import paint_pictures
from bt_model.training.corpus.paint import paint_clip
from bt_model.training.corpus.scene import (
    BACKGROUNDS,
    COLOURS,
    DIRECTIONS,
    EXTENT,
    PULSES,
    SHAPES,
    Change,
    Event,
    Item,
    Move,
    Order,
    Pulse,
    Scene,
    Still,
)
from bt_model.training.corpus.splits import scenes
from bt_model.video.sample import uniform

CHAT_INDICES = uniform(32, 8)  # of 32 frames, as the chat path samples them


def scene_of(event: Event, shape: str = "square", colour: str = "red") -> Scene:
    return Scene(Item(shape, colour, diameter=14.0, x=24.0, y=26.0), "black", event)


def centre(frame: np.ndarray) -> tuple[float, float]:
    """Centre of what is red, in pixels. (S,S,3) -> (x, y)."""
    weight = frame[..., 0].astype(float)
    rows, columns = np.indices(weight.shape)
    return float((weight * columns).sum() / weight.sum()), float((weight * rows).sum() / weight.sum())


def area(frame: np.ndarray) -> int:
    return int((frame[..., 0] > 100).sum())


def test_a_clip_is_32_square_rgb_frames() -> None:
    clip = paint_clip(scene_of(Still()), side=64)
    assert clip.shape == (32, 64, 64, 3)
    assert clip.dtype == np.uint8


def test_painting_is_deterministic() -> None:
    for scene in scenes("train", 8, seed=1):
        assert np.array_equal(paint_clip(scene), paint_clip(scene))


@pytest.mark.parametrize("num_frames", [32, 64, 7])
def test_the_twin_of_a_clip_is_its_frames_backwards(num_frames: int) -> None:
    for scene in scenes("train", 24, seed=2):
        clip, twin = (
            paint_clip(scene, num_frames=num_frames),
            paint_clip(scene.reversed(), num_frames=num_frames),
        )
        assert np.array_equal(twin, clip[::-1])


def test_twins_differ_in_the_order_of_their_frames() -> None:
    for scene in scenes("train", 24, seed=3, kinds=["move", "change", "order"]):
        assert not np.array_equal(paint_clip(scene), paint_clip(scene.reversed()))


def test_eight_sampled_frames_of_twins_are_the_same_multiset_in_another_order() -> None:
    for scene in scenes("train", 24, seed=4, kinds=["move", "change", "order"]):
        sampled = [frame.tobytes() for frame in paint_clip(scene)[CHAT_INDICES]]
        twin = [frame.tobytes() for frame in paint_clip(scene.reversed())[CHAT_INDICES]]
        assert sorted(sampled) == sorted(twin)
        assert sampled != twin


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_a_move_goes_its_path_in_its_direction(direction: str) -> None:
    clip = paint_clip(scene_of(Move(direction, path=20.0)))
    (x0, y0), (x1, y1) = centre(clip[0]), centre(clip[-1])
    expected = {"left": (-20, 0), "right": (20, 0), "up": (0, -20), "down": (0, 20)}[direction]
    assert (x1 - x0, y1 - y0) == pytest.approx(expected, abs=0.1)


def test_what_appears_is_absent_for_the_first_frames_only() -> None:
    clip = paint_clip(scene_of(Change("appear", absent=10)))
    assert [area(frame) > 0 for frame in clip] == [False] * 10 + [True] * 22


def test_what_disappears_is_absent_for_the_last_frames_only() -> None:
    clip = paint_clip(scene_of(Change("disappear", absent=10)))
    assert [area(frame) > 0 for frame in clip] == [True] * 22 + [False] * 10


def happens(name: str, frame: np.ndarray, rest: np.ndarray) -> bool:
    if not area(frame):
        return name == "blink"
    (x, y), (rest_x, rest_y) = centre(frame), centre(rest)
    return {
        "blink": False,
        "grow": area(frame) > 1.5 * area(rest),
        "jump": rest_y - y > 4,
        "sway": x - rest_x > 4,
    }[name]


@pytest.mark.parametrize("first", PULSES)
@pytest.mark.parametrize("second", PULSES)
@pytest.mark.parametrize("width", [12, 14])
@pytest.mark.parametrize("margin", [0, 2])
def test_sampled_frames_show_each_event_in_its_half_only(
    first: str, second: str, width: int, margin: int
) -> None:
    if first == second:
        return
    clip = paint_clip(scene_of(Order(Pulse(first, margin, width), Pulse(second, margin, width))))
    rest = paint_clip(scene_of(Still()))[0]
    seen = {name: [i for i in CHAT_INDICES if happens(name, clip[i], rest)] for name in PULSES}
    assert seen[first]
    assert max(seen[first]) < 16 <= min(seen[second])
    assert not any(seen[name] for name in PULSES if name not in {first, second})


def test_a_pulse_is_as_far_from_the_end_as_from_the_start() -> None:
    early = paint_clip(scene_of(Order(Pulse("jump", 1, 12), Pulse("sway", 0, 12))))
    late = paint_clip(scene_of(Order(Pulse("blink", 0, 12), Pulse("jump", 1, 12))))
    assert np.array_equal(early[:16], late[:15:-1])


def test_items_stay_inside_the_picture() -> None:
    for scene in scenes("train", 200, seed=5):
        clip = paint_clip(scene)
        border = np.concatenate([clip[:, 0], clip[:, -1], clip[:, :, 0], clip[:, :, -1]], axis=1)
        assert (border == BACKGROUNDS[scene.background]).all()


def test_shapes_differ_in_a_fifth_of_their_pixels() -> None:
    # 12 units is the smallest diameter that is drawn
    masks = {}
    for shape in SHAPES:
        item = Item(shape, "red", diameter=12.0, x=24.0, y=24.0)
        masks[shape] = paint_clip(Scene(item, "black", Still()))[0][..., 0] > 100
    for a in SHAPES:
        for b in SHAPES[: SHAPES.index(a)]:
            assert (masks[a] ^ masks[b]).sum() > 0.2 * (masks[a] | masks[b]).sum(), (a, b)


def test_item_and_background_colours_are_well_separated() -> None:
    colours = np.array([*COLOURS.values(), *BACKGROUNDS.values()], float)
    distances = np.linalg.norm(colours[:, None] - colours[None], axis=-1)
    np.fill_diagonal(distances, np.inf)
    assert distances.min() > 80


def test_a_larger_side_shows_the_same_scene() -> None:
    for scene in scenes("train", 12, seed=6):
        large = paint_clip(scene, side=96).reshape(32, 48, 2, 48, 2, 3).mean(axis=(2, 4))
        assert np.abs(large - paint_clip(scene)).mean() < 1.0


def test_a_picture_of_a_still_scene_is_a_frame_of_its_clip() -> None:
    drawn = scenes("train", 6, seed=7, kinds=["still"])
    pictures = paint_pictures(drawn)
    for scene, picture in zip(drawn, pictures, strict=True):
        assert np.array_equal(picture, paint_clip(scene)[0])


def test_a_picture_does_not_depend_on_the_others_in_its_batch() -> None:
    drawn = scenes("train", 24, seed=8)
    together = paint_pictures(drawn)
    for scene, picture in zip(drawn, together, strict=True):
        assert np.array_equal(paint_pictures([scene])[0], picture)


def test_cues_never_occur_in_clips() -> None:
    drawn = scenes("train", 60, seed=9, kinds=["move", "change", "order"])
    for scene, picture in zip(drawn, paint_pictures(drawn), strict=True):
        distance = np.abs(paint_clip(scene).astype(int) - picture).max(axis=-1)
        assert (distance > 30).sum(axis=(1, 2)).min() > 10


@pytest.mark.parametrize("kind", ["move", "change", "order"])
def test_cues_tell_twins_apart_in_a_picture(kind: str) -> None:
    for scene in scenes("train", 20, seed=10, kinds=[kind]):
        picture, twin = paint_pictures([scene, scene.reversed()])
        assert (np.abs(picture.astype(int) - twin).max(axis=-1) > 60).sum() > 20


def test_a_tail_lies_behind_the_item() -> None:
    picture = paint_pictures([scene_of(Move("right", path=20.0))])[0]
    is_white = (picture > 60).all(axis=-1)
    assert is_white[:, : int(EXTENT / 2) - 6].any()
    assert not is_white[:, int(EXTENT / 2) - 6 :].any()


def test_a_strip_shows_the_first_event_left() -> None:
    order = Order(Pulse("jump", 1, 12), Pulse("grow", 1, 12))
    strip, swapped = paint_pictures([scene_of(order), scene_of(order).reversed()])
    assert np.array_equal(strip[:, 1:23], swapped[:, 25:47])
    assert np.array_equal(strip[:, 25:47], swapped[:, 1:23])
