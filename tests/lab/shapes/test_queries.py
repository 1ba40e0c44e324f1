"""Of which scenes a caption is true."""

from dataclasses import replace

import pytest

from bt_model.errors import InvalidValueError
from lab.shapes.events import Blink, Event, Move, Pace, Pulse, PulsePair, Recolour, Resize
from lab.shapes.films import FilmPlan, draw_film
from lab.shapes.queries import is_true
from lab.shapes.scene import Scene, SceneItem

ITEM = SceneItem("circle", "red", diameter=15.0, x=24.0, y=24.0)
LEFT = Move("left", 20.0)
ONCE = Blink("11110000", "10101010")
JUMPS = PulsePair(Pulse("blink", 0, 12), Pulse("jump", 0, 12))


def scene(event: Event = LEFT, background: str = "white", item: SceneItem = ITEM) -> Scene:
    return Scene((item,), background, event)


@pytest.mark.parametrize(
    ("text", "described", "other", "expected"),
    [
        ("a red circle moves left on white", scene(), scene(Move("left", 30.0)), True),
        ("a red circle moves left on white", scene(), scene(Move("right", 20.0)), False),
        ("a red circle moves left on white", scene(), scene(background="black"), False),
        ("a red circle moves left on white", scene(), scene(item=replace(ITEM, colour="blue")), False),
        ("a red circle moves left on white", scene(), scene(item=replace(ITEM, shape="bar")), False),
        ("a red circle moves left on white", scene(), scene(item=replace(ITEM, diameter=24.0)), True),
        ("a small red circle moves left on white", scene(), scene(item=replace(ITEM, diameter=24.0)), False),
        ("a red circle moves left on white", scene(), scene(Pace("speed up", "left", 30.0)), True),
        (
            "a red circle speeds up on white",
            scene(Pace("speed up", "left", 30.0)),
            scene(Pace("speed up", "up", 30.0)),
            True,
        ),
        ("a red circle speeds up on white", scene(Pace("speed up", "left", 30.0)), scene(), False),
        (
            "a red circle turns blue on white",
            scene(Recolour("blue", 16)),
            scene(Recolour("green", 16)),
            False,
        ),
        ("a red circle grows on white", scene(Resize("grow", 0.8)), scene(Resize("shrink", 0.8)), False),
        ("a red circle blinks once on white", scene(ONCE), scene(JUMPS), True),
        ("a red circle blinks once on white", scene(ONCE), scene(ONCE.twin()), False),
        ("a red circle blinks then jumps on white", scene(JUMPS), scene(JUMPS.twin()), False),
        ("a red circle blinks then jumps on white", scene(JUMPS), scene(ONCE), False),
    ],
)
def test_a_text_is_true_of_what_has_all_that_it_says(
    text: str, described: Scene, other: Scene, expected: bool
) -> None:
    assert is_true(text, described, other) is expected


def test_texts_are_true_of_their_own_scenes_and_not_of_their_twins() -> None:
    for event in draw_film(FilmPlan(80, 3600.0, "val", 5)):
        for text in (event.caption, event.paraphrase):
            assert is_true(text, event.scene, event.scene)
            assert not is_true(text, event.scene, event.scene.twin())


def test_scenes_of_several_items_are_not_judged() -> None:
    two = Scene((ITEM, replace(ITEM, shape="bar", colour="blue", x=40.0)), "white", LEFT)
    with pytest.raises(InvalidValueError, match="items is 2; allowed: 1"):
        is_true("a red circle moves left on white", scene(), two)
