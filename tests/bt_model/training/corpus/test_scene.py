import json

import pytest

from bt_model.training.corpus.scene import KINDS, Scene
from bt_model.training.corpus.splits import scenes


@pytest.mark.parametrize("kind", KINDS)
def test_a_scene_survives_the_way_through_json(kind: str) -> None:
    (scene,) = scenes("train", 1, seed=1, kinds=[kind])
    assert Scene.from_values(json.loads(scene.to_json())) == scene


@pytest.mark.parametrize("kind", ["move", "change", "order"])
def test_a_twin_differs_but_shares_the_key(kind: str) -> None:
    (scene,) = scenes("train", 1, seed=2, kinds=[kind])
    assert scene.reversed() != scene
    assert scene.reversed().key == scene.key


def test_reversing_twice_changes_nothing() -> None:
    for scene in scenes("train", 40, seed=3):
        assert scene.reversed().reversed() == scene


def test_different_scenes_have_different_keys() -> None:
    drawn = scenes("train", 500, seed=4)
    assert len({scene.key for scene in drawn}) == 500
