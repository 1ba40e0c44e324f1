from collections import Counter
from itertools import product

import pytest

from lab.shapes.cues import paint_pictures
from lab.shapes.draws import TURNING
from lab.shapes.events import COUNTS, KINDS, Blink, Move, Recolour, Rotate, Still
from lab.shapes.paint import paint_clip
from lab.shapes.scene import BACKGROUNDS, COLOURS, SHAPES, TEXTURES, Scene, SceneItem
from lab.shapes.splits import GROUPS, SPLITS, is_held_out, scenes, split_of

MOVING = [kind for kind in KINDS if kind != Still.kind]


@pytest.fixture(scope="module")
def drawn() -> dict[str, list[Scene]]:
    return {
        split: scenes(split, 360, seed=1, most_items=3, textures=True, diagonals=True) for split in SPLITS
    }


def cells(some: list[Scene]) -> set[tuple[str, str, str]]:
    return {(scene.actor.colour, scene.actor.shape, scene.event.group) for scene in some}


def test_splits_share_no_key(drawn: dict[str, list[Scene]]) -> None:
    keys = [{scene.key for scene in some} for some in drawn.values()]
    assert sum(map(len, keys)) == len(set.union(*keys))


def test_splits_share_no_frame_that_shows_the_actor(drawn: dict[str, list[Scene]]) -> None:
    shown: dict[str, set[bytes]] = {}
    for split, some in drawn.items():
        shown[split] = set()
        for scene in some[:45]:
            empty = paint_clip(without_actor(scene))[0].tobytes() if len(scene.items) > 1 else None
            shown[split] |= {frame.tobytes() for frame in paint_clip(scene)} - {empty}
            shown[split] |= {paint_pictures([scene])[0].tobytes()}
            shown[split] -= EMPTY
    assert all(shown.values())
    assert sum(map(len, shown.values())) == len(set.union(*shown.values()))


def without_actor(scene: Scene) -> Scene:
    return Scene(scene.items[1:], scene.background, Still(), scene.texture)


def empty_frames() -> set[bytes]:
    """What a clip of one item shows while the item is gone."""
    gone = Blink("0" * 8, "0" * 8)
    item = SceneItem("ring", "red", 14.0, 24.0, 24.0)
    grounds = product(BACKGROUNDS, TEXTURES)
    return {paint_clip(Scene((item,), ground, gone, texture))[0].tobytes() for ground, texture in grounds}


EMPTY = empty_frames()


def test_twins_share_a_split(drawn: dict[str, list[Scene]]) -> None:
    for split, some in drawn.items():
        assert {split_of(scene.twin()) for scene in some} == {split}


def test_every_kind_is_drawn_from_every_split(drawn: dict[str, list[Scene]]) -> None:
    for split, some in drawn.items():
        kinds = {scene.event.kind for scene in some}
        assert kinds == set(MOVING if split == "test_combo" else KINDS)
        assert {len(scene.items) for scene in some} == {1, 2, 3}


def test_no_training_scene_is_of_a_held_out_combination(drawn: dict[str, list[Scene]]) -> None:
    held_out = [scene for scene in drawn["test_combo"] if not isinstance(scene.event, Recolour)]
    assert not cells([*drawn["train"], *drawn["val"], *drawn["test"]]) & cells(held_out)


def test_no_training_scene_changes_from_or_to_a_held_out_colour() -> None:
    drawn = scenes("train", 400, seed=9, kinds=["recolour"])
    pairs = {(colour, scene.actor.shape) for scene in drawn for colour in colours_of(scene)}
    assert len(pairs) == len(COLOURS) * len(SHAPES) * 5 / 6


def colours_of(scene: Scene) -> tuple[str, str]:
    assert isinstance(scene.event, Recolour)
    return scene.actor.colour, scene.event.after


@pytest.mark.parametrize("group", [group for group in GROUPS if group not in {"recolour", "rotate"}])
def test_held_out_combinations_are_a_latin_square_for_each_event(group: str) -> None:
    held_out = [
        (scene.actor.colour, scene.actor.shape)
        for scene in every_cell()
        if scene.event.group == group and is_held_out(scene)
    ]
    assert sorted(colour for colour, _ in held_out) == sorted(COLOURS)
    assert {shape for _, shape in held_out} == set(SHAPES)


def test_a_sixth_of_all_combinations_is_held_out() -> None:
    every = [scene for scene in every_cell() if scene.event.group not in {"recolour", "rotate"}]
    assert sum(map(is_held_out, every)) == len(every) / 6


def every_cell() -> list[Scene]:
    """One scene of each colour, shape and group."""
    events = {
        scene.event.group: scene for scene in scenes("train", 600, seed=2, kinds=MOVING, diagonals=True)
    }
    return [
        Scene((SceneItem(shape, colour, 14.0, 24.0, 24.0),), "black", scene.event)
        for scene, colour, shape in product(events.values(), COLOURS, SHAPES)
    ]


def test_training_shows_every_pair_of_colour_shape_and_event() -> None:
    shown = cells(scenes("train", 6000, seed=2, kinds=MOVING, diagonals=True))
    assert {cell[:2] for cell in shown} == set(product(COLOURS, SHAPES))
    assert {cell[0::2] for cell in shown} == set(product(COLOURS, GROUPS))
    turning = {(shape, Rotate.kind) for shape in SHAPES if shape not in TURNING}
    assert {cell[1:] for cell in shown} == set(product(SHAPES, GROUPS)) - turning


def test_still_scenes_are_never_held_out() -> None:
    assert not any(is_held_out(scene) for scene in scenes("train", 300, seed=3, kinds=["still"]))


def test_a_scene_is_of_one_plain_item_that_moves_along_an_axis_unless_asked() -> None:
    drawn = scenes("train", 180, seed=4)
    assert {(len(scene.items), scene.texture) for scene in drawn} == {(1, "plain")}
    assert not any(scene.event.group == "diagonal" for scene in drawn)


def test_equal_seeds_draw_equal_scenes() -> None:
    assert scenes("val", 50, seed=5, most_items=3) == scenes("val", 50, seed=5, most_items=3)


def test_a_longer_draw_starts_with_the_shorter_one() -> None:
    assert scenes("val", 60, seed=5, most_items=2)[:20] == scenes("val", 20, seed=5, most_items=2)


@pytest.mark.parametrize("split", SPLITS)
def test_other_seeds_draw_other_scenes(split: str) -> None:
    keys = [{scene.key for scene in scenes(split, 100, seed)} for seed in (5, 6, 2**40)]
    assert sum(map(len, keys)) == len(set.union(*keys)) == 300


def test_kinds_take_turns(drawn: dict[str, list[Scene]]) -> None:
    counts = Counter(scene.event.kind for scene in drawn["train"])
    assert counts == dict.fromkeys(KINDS, 40)


def test_each_number_of_items_is_equally_common() -> None:
    drawn = scenes("train", 600, seed=6, kinds=["rotate", "order"], most_items=3)
    counts = Counter(len(scene.items) for scene in drawn)
    assert all(share == pytest.approx(200, abs=40) for share in counts.values())


def test_each_count_is_equally_common() -> None:
    events = [scene.event for scene in scenes("train", 1200, seed=7, kinds=["count"])]
    counts = Counter(event.count for event in events if isinstance(event, Blink))
    assert sorted(counts) == sorted(COUNTS)
    assert all(share == pytest.approx(300, abs=50) for share in counts.values())


@pytest.mark.parametrize("kind", [kind for kind in MOVING if kind != Recolour.kind])
def test_both_twins_are_equally_common(kind: str) -> None:
    moving = scenes("train", 400, seed=8, kinds=[kind])
    forward = sum(scene.to_json() == scene.key for scene in moving) / len(moving)
    assert forward == pytest.approx(0.5, abs=0.1)


def test_all_eight_directions_are_drawn_where_asked() -> None:
    drawn = scenes("train", 200, seed=9, kinds=["move"], diagonals=True)
    assert len({scene.event.direction for scene in drawn if isinstance(scene.event, Move)}) == 8


def test_an_unknown_split_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"'trial'.*train"):
        scenes("trial", 1, seed=0)


def test_an_unknown_kind_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"fly.*move"):
        scenes("train", 1, seed=0, kinds=["fly"])


@pytest.mark.parametrize("most_items", [0, 4])
def test_a_wrong_number_of_items_is_refused(most_items: int) -> None:
    with pytest.raises(ValueError, match=f"most_items {most_items}: 1 to 3"):
        scenes("train", 1, seed=0, most_items=most_items)


def test_held_out_still_scenes_do_not_exist() -> None:
    with pytest.raises(ValueError, match="kinds"):
        scenes("test_combo", 1, seed=0, kinds=["still"])
