from collections import Counter
from itertools import product

import pytest

from bt_model.training.corpus.paint import paint_clip
from bt_model.training.corpus.scene import COLOURS, KINDS, SHAPES, Scene
from bt_model.training.corpus.splits import GROUPS, SPLITS, is_held_out, scenes, split_of


@pytest.fixture(scope="module")
def drawn() -> dict[str, list[Scene]]:
    return {split: scenes(split, 1500, seed=1) for split in SPLITS}


def cells(some: list[Scene]) -> set[tuple[str, str, str]]:
    return {(scene.item.colour, scene.item.shape, scene.event.group) for scene in some}


def test_splits_share_no_key(drawn: dict[str, list[Scene]]) -> None:
    keys = [{scene.key for scene in some} for some in drawn.values()]
    assert sum(map(len, keys)) == len(set.union(*keys))


def test_splits_share_no_clip(drawn: dict[str, list[Scene]]) -> None:
    clips = [{frozenset(f.tobytes() for f in paint_clip(s)) for s in some[:60]} for some in drawn.values()]
    assert sum(map(len, clips)) == len(set.union(*clips))


def test_twins_share_a_split(drawn: dict[str, list[Scene]]) -> None:
    for split, some in drawn.items():
        assert {split_of(scene.reversed()) for scene in some} == {split}


def test_no_training_scene_is_of_a_held_out_combination(drawn: dict[str, list[Scene]]) -> None:
    assert not cells(drawn["train"]) & cells(drawn["test_combo"])


def test_held_out_combinations_are_a_latin_square_for_each_event(drawn: dict[str, list[Scene]]) -> None:
    held_out = cells(drawn["test_combo"])
    for group in GROUPS:
        pairs = [(colour, shape) for colour, shape, event in held_out if event == group]
        assert sorted(colour for colour, _ in pairs) == sorted(COLOURS)
        assert sorted(shape for _, shape in pairs) == sorted(SHAPES)


def test_training_shows_every_pair_of_colour_shape_and_event(drawn: dict[str, list[Scene]]) -> None:
    seen = cells(scenes("train", 6000, seed=2, kinds=["move", "change", "order"]))
    assert {cell[:2] for cell in seen} == set(product(COLOURS, SHAPES))
    assert {cell[0::2] for cell in seen} == set(product(COLOURS, GROUPS))
    assert {cell[1:] for cell in seen} == set(product(SHAPES, GROUPS))


def test_still_scenes_are_never_held_out() -> None:
    assert not any(is_held_out(scene) for scene in scenes("train", 300, seed=3, kinds=["still"]))


def test_equal_seeds_draw_equal_scenes() -> None:
    assert scenes("val", 50, seed=5) == scenes("val", 50, seed=5)


def test_other_seeds_draw_other_scenes() -> None:
    assert not set(scenes("val", 50, seed=5)) & set(scenes("val", 50, seed=6))


def test_kinds_take_turns(drawn: dict[str, list[Scene]]) -> None:
    counts = Counter(scene.event.kind for scene in drawn["train"])
    assert counts == dict.fromkeys(KINDS, 375)


def test_both_time_directions_are_equally_common(drawn: dict[str, list[Scene]]) -> None:
    moving = [scene for scene in drawn["train"] if scene.event.kind != "still"]
    forward = sum(scene.to_json() == scene.key for scene in moving) / len(moving)
    assert forward == pytest.approx(0.5, abs=0.05)


def test_an_unknown_split_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"'trial'.*train"):
        scenes("trial", 1, seed=0)


def test_an_unknown_kind_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"fly.*move"):
        scenes("train", 1, seed=0, kinds=["fly"])


def test_held_out_still_scenes_do_not_exist() -> None:
    with pytest.raises(ValueError, match="kinds"):
        scenes("test_combo", 1, seed=0, kinds=["still"])
