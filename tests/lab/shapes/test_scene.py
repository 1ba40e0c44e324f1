import pytest

from lab.shapes.events import KINDS, Blink, Recolour, Still
from lab.shapes.scene import Scene, SceneItem
from lab.shapes.splits import scenes

MOVING = [kind for kind in KINDS if kind != Still.kind]


@pytest.mark.parametrize("kind", MOVING)
def test_a_twin_differs_but_shares_the_key(kind: str) -> None:
    (scene,) = scenes("train", 1, seed=2, kinds=[kind])
    assert scene.twin() != scene
    assert scene.twin().key == scene.key


def test_the_twin_of_a_twin_is_the_scene_itself() -> None:
    for scene in scenes("train", 90, seed=3, most_items=3):
        assert scene.twin().twin() == scene


def test_the_twin_of_a_recoloured_item_starts_with_the_other_colour() -> None:
    scene = Scene((SceneItem("ring", "red", 14.0, 24.0, 24.0),), "black", Recolour("blue", at=12))
    twin = scene.twin()
    assert (twin.actor.colour, twin.event) == ("blue", Recolour("red", at=20))


def test_different_scenes_have_different_keys() -> None:
    drawn = scenes("train", 500, seed=4)
    assert len({scene.key for scene in drawn}) == 500


@pytest.mark.parametrize(
    ("beats", "count"), [("11111111", 0), ("10000111", 1), ("01010101", 4), ("10101010", 4), ("00110011", 2)]
)
def test_a_blink_is_counted_by_how_often_the_item_is_gone(beats: str, count: int) -> None:
    assert Blink(beats, beats).count == count


def test_frames_that_do_not_read_the_same_from_both_ends_have_no_twin() -> None:
    (scene,) = scenes("train", 1, seed=5, kinds=["move"])
    with pytest.raises(ValueError, match=r"\[0, 30\].*both ends"):
        scene.twin_frames([0, 30])


def test_blinking_frames_that_leave_out_a_beat_have_no_twin() -> None:
    item = SceneItem("ring", "red", 14.0, 24.0, 24.0)
    scene = Scene((item,), "black", Blink("10001110", "01101010"))
    with pytest.raises(ValueError, match="every beat of 4"):
        scene.twin_frames([0, 1, 2])
