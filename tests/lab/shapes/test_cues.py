import numpy as np
import pytest

from lab.shapes.cues import paint_pictures
from lab.shapes.draws import room_of
from lab.shapes.events import (
    COUNTS,
    DIAGONALS,
    DIRECTIONS,
    KINDS,
    RESIZES,
    STEPS,
    Blink,
    Change,
    Event,
    Move,
    Pace,
    Pulse,
    PulsePair,
    Recolour,
    Resize,
    Rotate,
    Still,
)
from lab.shapes.paint import paint_clip
from lab.shapes.scene import SHAPES, Scene
from lab.shapes.splits import scenes
from tests.lab.shapes.pixels import Frame, area, centre, of_colour, of_sign, runs, scene_of

MOVING = [kind for kind in KINDS if kind != Still.kind]
UNIT = 64 / 48  # pixels


def picture(event: Event, shape: str = "square", diameter: float = 14.0) -> Frame:
    return paint_pictures([scene_of(event, shape, diameter=diameter)])[0]


def varied(kinds: list[str], count: int, seed: int) -> list[Scene]:
    return scenes("train", count, seed, kinds=kinds, most_items=3, textures=True, diagonals=True)


def test_a_picture_of_a_still_scene_is_a_frame_of_its_clip() -> None:
    drawn = varied(["still"], 12, seed=7)
    for scene, each in zip(drawn, paint_pictures(drawn), strict=True):
        assert np.array_equal(each, paint_clip(scene)[0])


def test_a_picture_does_not_depend_on_the_others_in_its_batch() -> None:
    drawn = varied(list(KINDS), 45, seed=8)
    for scene, each in zip(drawn, paint_pictures(drawn), strict=True):
        assert np.array_equal(paint_pictures([scene])[0], each)


@pytest.mark.parametrize("kind", MOVING)
def test_cues_never_occur_in_clips(kind: str) -> None:
    drawn = varied([kind], 10, seed=9)
    for scene, each in zip(drawn, paint_pictures(drawn), strict=True):
        distance = np.abs(paint_clip(scene).astype(int) - each).max(axis=-1)
        assert (distance > 30).sum(axis=(1, 2)).min() > 10


@pytest.mark.parametrize("kind", MOVING)
def test_cues_tell_twins_apart_in_a_picture(kind: str) -> None:
    for scene in varied([kind], 15, seed=10):
        one, twin = paint_pictures([scene, scene.twin()])
        assert (np.abs(one.astype(int) - twin).max(axis=-1) > 60).sum() > 20


@pytest.mark.parametrize("kind", [kind for kind in MOVING if kind != PulsePair.kind])
def test_pictures_of_twins_differ_in_the_cue_alone(kind: str) -> None:
    for scene in varied([kind], 15, seed=11):
        one, twin = paint_pictures([scene, scene.twin()])
        box = room_of(scene.event, scene.actor.diameter).at(scene.actor.x, scene.actor.y)
        left, top, right, bottom = (round(at * UNIT) for at in box)
        differs = (one != twin).any(axis=-1)
        differs[max(top - 1, 0) : bottom + 1, max(left - 1, 0) : right + 1] = False
        assert not differs.any()


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != PulsePair.kind])
def test_a_bystander_stands_in_the_picture_as_in_the_clip(kind: str) -> None:
    drawn = varied([kind], 12, seed=12)
    for scene, each in zip(drawn, paint_pictures(drawn), strict=True):
        clip = paint_clip(scene)
        for item in scene.items[1:]:
            x, y, radius = item.x * UNIT, item.y * UNIT, item.diameter / 2 * UNIT
            part = np.s_[int(y - radius) : int(y + radius) + 1, int(x - radius) : int(x + radius) + 1]
            assert np.array_equal(each[part], clip[0][part])


@pytest.mark.parametrize("direction", DIRECTIONS + DIAGONALS)
@pytest.mark.parametrize("event", [Move, Pace])
def test_a_trail_lies_behind_the_item(direction: str, event: type) -> None:
    cue = picture(Move(direction, 26.0) if event is Move else Pace("slow down", direction, 26.0))
    behind = np.subtract((24.0, 26.0), centre(of_sign(cue)))
    right, down = STEPS[direction]
    assert behind @ (right, down) > 8
    assert abs(behind @ (down, -right)) < 1


def test_a_longer_path_has_a_longer_tail() -> None:
    short, long = (of_sign(picture(Move("right", path))).any(axis=0).sum() for path in (20.0, 30.0))
    assert long - short == pytest.approx(5 * UNIT, abs=1.5)


@pytest.mark.parametrize(("word", "slow_end"), [("speed up", "left"), ("slow down", "right")])
def test_strokes_are_long_and_close_where_the_item_is_slow(word: str, slow_end: str) -> None:
    trail = of_sign(picture(Pace(word, "right", 32.0)))
    columns = trail.sum(axis=0)[trail.any(axis=0).argmax() : int(17 * UNIT)]
    half = len(columns) // 2
    left, right = columns[:half].sum(), columns[-half:].sum()
    assert left > 1.7 * right if slow_end == "left" else right > 1.7 * left
    gaps = [length for is_filled, length in runs([bool(column) for column in columns]) if not is_filled]
    assert gaps == sorted(gaps, reverse=slow_end == "right")
    assert len(gaps) >= 2


def test_what_appears_has_rays_and_what_disappears_has_holes() -> None:
    appears, disappears = picture(Change("appear", 10)), picture(Change("disappear", 10))
    assert of_sign(appears).sum() > 40
    assert not of_sign(disappears).any()
    assert area(disappears) < 0.7 * area(appears)


@pytest.mark.parametrize("shape", SHAPES)
def test_what_grows_has_an_outline_outside_and_what_shrinks_inside(shape: str) -> None:
    grows, shrinks = (picture(Resize(word, 0.8), shape, diameter=16.0) for word in ("grow", "shrink"))
    rows, columns = np.indices((64, 64))
    reach = np.maximum(np.abs(columns + 0.5 - 24 * UNIT), np.abs(rows + 0.5 - 26 * UNIT)) / UNIT
    inside = reach < 8.0
    body = of_colour(picture(Still(), "circle" if shape == "ring" else shape, diameter=15.0), "red")
    assert of_sign(grows)[~inside].sum() > 1.6 * of_sign(shrinks)[~inside].sum()
    assert not (of_sign(grows) & body).any()
    assert (of_sign(shrinks) & body).sum() > 10


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("word", RESIZES)
def test_growth_signs_leave_the_item_its_colour(shape: str, word: str) -> None:
    rest = area(picture(Still(), shape, diameter=16.0))
    assert area(picture(Resize(word, 0.8), shape, diameter=16.0)) > 0.25 * rest


def test_arrow_heads_point_away_from_what_grows_and_at_what_shrinks() -> None:
    widths = {}
    for word in ("grow", "shrink"):
        right = of_sign(picture(Resize(word, 0.8), diameter=16.0))[
            :, int(36 * UNIT) if word == "grow" else 0 :
        ]
        beyond = right if word == "grow" else right[:, int(33.5 * UNIT) :]
        widths[word] = [int(n) for n in beyond.sum(axis=0) if n]
    assert widths["grow"] == sorted(widths["grow"], reverse=True)
    assert widths["shrink"] == sorted(widths["shrink"])
    assert len(set(widths["grow"])) > 2 < len(set(widths["shrink"]))


def test_the_colour_that_comes_first_is_left() -> None:
    cue = picture(Recolour("cyan", at=12))
    assert centre(of_colour(cue, "red"))[0] < 22
    assert centre(of_colour(cue, "cyan"))[0] > 26
    assert area(cue, "red") == pytest.approx(area(cue, "cyan"), rel=0.2)


def test_an_arrow_below_a_recoloured_item_points_right() -> None:
    arrow = of_sign(picture(Recolour("cyan", at=12)))
    heights = arrow.sum(axis=0)
    assert centre(arrow)[1] > 26 + 7
    assert heights[: int(24 * UNIT)].max() < heights[int(24 * UNIT) :].max()


@pytest.mark.parametrize("count", COUNTS)
def test_as_many_strokes_as_the_item_blinks_stand_below_it(count: int) -> None:
    beats = {1: "10000111", 2: "11001001", 3: "10100101", 4: "10101010"}
    strokes = of_sign(picture(Blink(beats[count], beats[count % 4 + 1])))
    assert centre(strokes)[1] > 26 + 7
    assert sum(value for value, _ in runs([bool(column) for column in strokes.sum(axis=0)])) == count


@pytest.mark.parametrize(("word", "side"), [("clockwise", 1), ("counterclockwise", -1)])
def test_an_arrow_leads_from_the_top_to_the_side_that_a_turn_starts_with(word: str, side: int) -> None:
    arc = of_sign(picture(Rotate(word, 80, 30)))
    x, y = centre(arc)
    assert side * (x - 24) > 4
    assert y < 26
    low_end = np.nonzero(arc)[0].max()
    assert side * (centre(arc & (np.indices(arc.shape)[0] > low_end - 3))[0] - 24) > 10


def test_the_picture_of_a_turning_item_shows_it_half_way() -> None:
    event = Rotate("clockwise", 80, 30)
    half_way = paint_clip(scene_of(event), num_frames=3)[1]
    assert np.array_equal(of_colour(picture(event), "red"), of_colour(half_way, "red"))


def test_a_strip_shows_the_first_event_left() -> None:
    order = PulsePair(Pulse("jump", 1, 12), Pulse("grow", 1, 12))
    strip, swapped = paint_pictures([scene_of(order), scene_of(order).twin()])
    assert np.array_equal(strip[:, 1:31], swapped[:, 33:63])
    assert np.array_equal(strip[:, 33:63], swapped[:, 1:31])


def test_both_halves_of_a_strip_hold_the_bystanders_in_their_order() -> None:
    crowded = (scene for scene in varied(["order"], 40, seed=13) if len(scene.items) == 3)
    for scene in crowded:
        (strip,) = paint_pictures([scene])
        expected = [item.colour for item in sorted(scene.items[1:], key=lambda item: item.x)]
        for half in (strip[52:, :31], strip[52:, 33:]):
            positions = {colour: centre(of_colour(half, colour))[0] for colour in expected}
            assert sorted(positions, key=positions.__getitem__) == expected
