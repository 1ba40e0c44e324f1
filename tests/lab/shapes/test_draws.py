from collections import Counter
from itertools import combinations

import numpy as np
import pytest

from lab.shapes.cues import paint_pictures
from lab.shapes.draws import TURNING, Rectangle, box_of, room_of
from lab.shapes.events import KINDS, Blink, PulsePair, Recolour
from lab.shapes.paint import paint_clip
from lab.shapes.scene import BACKGROUNDS, EXTENT, Scene
from lab.shapes.splits import scenes

UNIT = 64 / EXTENT


def crowds(kind: str, count: int = 40) -> list[Scene]:
    drawn = scenes("train", count, seed=1, kinds=[kind], most_items=3, textures=True, diagonals=True)
    return [scene for scene in drawn if len(scene.items) > 1]


def actor_box(scene: Scene) -> Rectangle:
    return room_of(scene.event, scene.actor.diameter).at(scene.actor.x, scene.actor.y)


@pytest.mark.parametrize("kind", KINDS)
def test_bystanders_touch_neither_the_actors_room_nor_each_other(kind: str) -> None:
    for scene in crowds(kind):
        boxes = [actor_box(scene), *map(box_of, scene.items[1:])]
        assert not any(a.touches(b, 2.0) for a, b in combinations(boxes, 2))


@pytest.mark.parametrize("kind", KINDS)
def test_all_rooms_are_inside_the_picture(kind: str) -> None:
    alone = scenes("train", 200, seed=2, kinds=[kind], diagonals=True)
    for scene in [*alone, *crowds(kind)]:
        for left, top, right, bottom in (actor_box(scene), *map(box_of, scene.items[1:])):
            assert min(left, top) >= 1.0
            assert max(right, bottom) <= EXTENT - 1.0


@pytest.mark.parametrize("kind", KINDS)
def test_items_of_a_scene_differ_in_shape_and_in_every_colour(kind: str) -> None:
    for scene in crowds(kind):
        colours = [item.colour for item in scene.items]
        if isinstance(scene.event, Recolour):
            colours.append(scene.event.after)
        assert len(set(colours)) == len(colours)
        assert len({item.shape for item in scene.items}) == len(scene.items)


@pytest.mark.parametrize("kind", KINDS)
def test_an_actor_and_its_cue_stay_in_their_room(kind: str) -> None:
    for scene in scenes("train", 25, seed=3, kinds=[kind], diagonals=True):
        left, top, right, bottom = (at * UNIT for at in actor_box(scene))
        shown = paint_clip(scene)
        if not isinstance(scene.event, PulsePair):  # a strip has positions of its own
            shown = np.concatenate([shown, paint_pictures([scene])])
        rows, columns = np.nonzero((shown != BACKGROUNDS[scene.background]).any(axis=(0, 3)))
        # the soft edge of a form may reach one pixel further
        assert left - 1 <= columns.min() <= columns.max() < right + 1
        assert top - 1 <= rows.min() <= rows.max() < bottom + 1


def test_what_turns_has_a_turn_that_can_be_seen() -> None:
    for scene in scenes("train", 100, seed=4, kinds=["rotate"], most_items=3):
        assert scene.actor.shape in TURNING


def test_a_blink_and_its_twin_differ_in_count_and_not_in_duty() -> None:
    for scene in scenes("train", 300, seed=5, kinds=["count"]):
        event = scene.event
        assert isinstance(event, Blink)
        assert event.count != event.twin().count
        assert event.beats.count("1") == event.other.count("1") == 4


def test_no_blink_looks_like_a_change() -> None:
    patterns = Counter(
        scene.event.beats
        for scene in scenes("train", 600, seed=6, kinds=["count"])
        if isinstance(scene.event, Blink)
    )
    assert not {"00001111", "11110000"} & patterns.keys()
    assert len(patterns) > 40


def test_boxes_touch_where_both_of_their_distances_are_short() -> None:
    box = Rectangle(10.0, 10.0, 20.0, 20.0)
    assert box.touches(Rectangle(21.0, 15.0, 30.0, 30.0), gap=2.0)
    assert not box.touches(Rectangle(22.0, 15.0, 30.0, 30.0), gap=2.0)
    assert not box.touches(Rectangle(5.0, 0.0, 30.0, 8.0), gap=2.0)
    assert box.touches(Rectangle(0.0, 0.0, 40.0, 40.0), gap=0.0)
