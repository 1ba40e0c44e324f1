from dataclasses import replace
from random import Random
from string import Formatter

import pytest

from lab.shapes.captions import CAPTIONS, caption, event_words
from lab.shapes.events import KINDS, PulsePair, Recolour, Resize
from lab.shapes.scene import COLOURS, SHAPES, SIZES, Scene
from lab.shapes.wordings import QUESTIONS, Templates
from tests.lab.shapes.hand_drawn import drawn, split_words

VERBS = {
    *(
        "moves",
        "goes",
        "slides",
        "travels",
        "moving",
        "up",
        "down",
        "speeds",
        "slows",
        "appears",
        "disappears",
    ),
    *("grows", "shrinks", "turns", "becomes", "changes", "blinks", "jumps", "sways", "blinking", "gone"),
    *("rotates", "spins", "turning", "clockwise", "counterclockwise", "once", "twice", "times", "then"),
}


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return drawn(900, seed=1)


def kinds_of(scenes: list[Scene], *kinds: str) -> list[Scene]:
    return [scene for scene in scenes if scene.event.kind in kinds]


@pytest.mark.parametrize("name", [*CAPTIONS, *QUESTIONS])
def test_held_out_wordings_are_no_training_wordings(name: str) -> None:
    templates = (CAPTIONS | QUESTIONS)[name]
    assert len(set(templates.held_out)) == 2
    assert not set(templates.train) & set(templates.held_out)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_eight_captions(kind: str) -> None:
    assert len(set(CAPTIONS[kind].train + CAPTIONS[kind].held_out)) >= 8


@pytest.mark.parametrize("templates", [CAPTIONS, QUESTIONS])
def test_held_out_wordings_need_no_word_that_training_lacks(templates: dict[str, Templates]) -> None:
    trained = {word for group in templates.values() for text in group.train for word in split_words(text)}
    unseen = {word for group in templates.values() for text in group.held_out for word in split_words(text)}
    assert unseen <= trained


def test_held_out_captions_never_occur_in_training(scenes: list[Scene]) -> None:
    for scene in scenes[:45]:
        texts = [{caption(scene, Random(i), held_out=h) for i in range(100)} for h in (False, True)]
        assert not texts[0] & texts[1]


def test_static_captions_say_nothing_of_the_event(scenes: list[Scene]) -> None:
    for i, scene in enumerate(scenes):
        assert not VERBS & set(split_words(caption(scene, Random(i), static_share=1.0)))


def test_the_static_captions_of_twins_are_equal(scenes: list[Scene]) -> None:
    for i, scene in enumerate(scenes):
        assert caption(scene, Random(i), static_share=1.0) == caption(
            scene.twin(), Random(i), static_share=1.0
        )


def test_the_share_of_static_captions_is_as_given(scenes: list[Scene]) -> None:
    rng = Random(2)
    moving = [scene for scene in scenes if scene.event.kind != "still"]
    texts = [caption(scene, rng, static_share=0.3) for scene in moving * 5]
    static = sum(not VERBS & set(split_words(text)) for text in texts) / len(texts)
    assert static == pytest.approx(0.3, abs=0.03)


def without_event(scene: Scene, text: str) -> str:
    """The caption with the words of the event, and the article before a colour, blotted out."""
    for value in sorted(event_words(scene).values(), key=len, reverse=True):
        text = f" {text} ".replace(f" {value} ", " … ").strip()
    return text.replace("an …", "a …")


def test_the_captions_of_twins_differ_in_the_event_and_nothing_else(scenes: list[Scene]) -> None:
    for i, scene in enumerate(scenes):
        mine, twins = caption(scene, Random(i)), caption(scene.twin(), Random(i))
        assert (mine != twins) == (scene.event.kind != "still")
        assert without_event(scene, mine) == without_event(scene.twin(), twins)


def test_events_are_named_in_their_order(scenes: list[Scene]) -> None:
    for i, scene in enumerate(kinds_of(scenes, "order")):
        assert isinstance(scene.event, PulsePair)
        words = caption(scene, Random(i)).split()
        assert words.index(f"{scene.event.first.name}s") < words.index(f"{scene.event.second.name}s")


def test_colours_are_named_in_their_order(scenes: list[Scene]) -> None:
    for i, scene in enumerate(kinds_of(scenes, "recolour")):
        assert isinstance(scene.event, Recolour)
        words = caption(scene, Random(i)).split()
        assert scene.event.after in words
        if scene.actor.colour in words:
            assert words.index(scene.actor.colour) < words.index(scene.event.after)


def test_a_lone_item_is_named_by_colour_and_shape_and_the_background_always(scenes: list[Scene]) -> None:
    for i, scene in enumerate(scenes):
        words = caption(scene, Random(i)).split()
        assert scene.background in words
        if len(scene.items) == 1 and not isinstance(scene.event, Recolour):
            assert {scene.actor.colour, scene.actor.shape} <= set(words)


def test_every_caption_of_an_event_names_the_actor_by_something_that_only_it_has(scenes: list[Scene]) -> None:
    for i, scene in enumerate(scenes):
        if scene.event.kind != "still":
            assert {scene.actor.colour, scene.actor.shape} & set(caption(scene, Random(i)).split())


def test_captions_name_only_what_is_there(scenes: list[Scene]) -> None:
    for i, scene in enumerate(scenes * 2):
        words = set(caption(scene, Random(i), static_share=0.3).split())
        shown = {scene.actor.colour, *event_words(scene).values(), *(item.colour for item in scene.items)}
        assert words & set(COLOURS) <= shown
        assert words & set(SHAPES) <= {item.shape for item in scene.items}


def test_bystanders_are_mentioned_in_some_captions_of_events(scenes: list[Scene]) -> None:
    several = [s for s in kinds_of(scenes, "move", "pace", "count") if len(s.items) > 1]
    mentioned = sum(" with " in caption(scene, Random(i)) for i, scene in enumerate(several * 5))
    assert mentioned / len(several * 5) == pytest.approx(0.3, abs=0.05)


def test_an_order_caption_never_mentions_bystanders(scenes: list[Scene]) -> None:
    for i, scene in enumerate(kinds_of(scenes, "order") * 5):
        words = set(caption(scene, Random(i), static_share=0.5).split())
        assert words & set(SHAPES) <= {scene.actor.shape}
        assert "objects" not in words


@pytest.mark.parametrize(
    ("texture", "word"), [("stripes", "striped"), ("dots", "dotted"), ("checks", "checked")]
)
def test_some_captions_name_the_texture(scenes: list[Scene], texture: str, word: str) -> None:
    (scene,) = drawn(1, seed=3)
    texts = [caption(replace(scene, texture=texture), Random(i), static_share=1.0) for i in range(400)]
    assert sum(word in text.split() for text in texts) / 400 == pytest.approx(0.5, abs=0.1)


def test_left_of_is_true_of_what_lies_left(scenes: list[Scene]) -> None:
    num_relations = 0
    for i, scene in enumerate(scenes * 3):
        words = caption(scene, Random(i), static_share=1.0).split()
        if "left" in words:
            left, right = (
                next(item for item in scene.items if item.shape in part)
                for part in (words[: words.index("left")], words[words.index("left") :])
            )
            num_relations += 1
            assert right.x - left.x >= 6.0
    assert num_relations > 50


def test_no_size_is_named_where_it_is_no_fact(scenes: list[Scene]) -> None:
    for i, scene in enumerate(scenes * 3):
        named = set(SIZES) & set(caption(scene, Random(i), static_share=0.3).split())
        if len(scene.items) > 1 or isinstance(scene.event, PulsePair | Resize):
            assert not named
        else:
            assert named <= {scene.actor.size}


def test_captions_have_at_most_22_words(scenes: list[Scene]) -> None:
    longest = max(
        len(split_words(caption(scene, Random(i), static_share=0.5, held_out=held_out)))
        for i, scene in enumerate(scenes * 10)
        for held_out in (False, True)
    )
    assert 18 <= longest <= 22


def test_templates_use_only_placeholders_that_their_event_fills(scenes: list[Scene]) -> None:
    for scene in scenes[: len(KINDS)]:
        templates = CAPTIONS[scene.event.kind]
        allowed = {*event_words(scene), "a", "the", "shape", "items", "ground", "background"}
        for text in (*templates.train, *templates.held_out):
            used = [name for _, name, _, _ in Formatter().parse(text) if name]
            assert set(used) <= allowed
            assert {"ground", "background"} & set(used)
