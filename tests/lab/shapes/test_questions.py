from collections import Counter
from dataclasses import replace
from random import Random

import pytest

from lab.shapes.captions import caption
from lab.shapes.events import (
    CHANGES,
    DIAGONALS,
    DIRECTIONS,
    PACES,
    PULSES,
    RESIZES,
    TURNS,
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
from lab.shapes.questions import STATIC, TEMPORAL, ClipQuestion, questions
from lab.shapes.scene import BACKGROUNDS, COLOURS, SHAPES, Scene, SceneItem
from lab.shapes.wordings import QUESTIONS
from tests.lab.shapes.hand_drawn import BEATS, drawn, split_words

ITEM = SceneItem("ring", "cyan", diameter=20.0, x=20.0, y=24.0)
LEFT = SceneItem("bar", "red", diameter=12.0, x=8.0, y=40.0)
ORDER = PulsePair(Pulse("sway", 0, 12), Pulse("grow", 0, 12))


def ask(event: Event, seed: int = 0) -> dict[str, ClipQuestion]:
    return {question.kind: question for question in questions(Scene((ITEM,), "navy", event), Random(seed))}


@pytest.mark.parametrize("direction", DIRECTIONS + DIAGONALS)
def test_the_answer_to_direction_is_the_direction(direction: str) -> None:
    assert ask(Move(direction, 20.0))["direction"].answer == direction
    assert ask(Pace("speed up", direction, 20.0))["direction"].answer == direction


@pytest.mark.parametrize(
    ("event", "answer"),
    [
        *((Change(word, 10), f"it {word}s") for word in CHANGES),
        *((Resize(word, 0.5), f"it {word}s") for word in RESIZES),
        *((Rotate(word, 90.0, 0.0), word) for word in TURNS),
        *zip((Pace(word, "left", 20.0) for word in PACES), ("it speeds up", "it slows down"), strict=True),
        *zip((Blink(b, BEATS[1]) for b in BEATS), ("one", "two", "three", "four"), strict=True),
    ],
)
def test_the_answer_to_an_event_is_what_the_item_does(event: Event, answer: str) -> None:
    assert ask(event)[event.kind].answer == answer


@pytest.mark.parametrize("first", PULSES)
@pytest.mark.parametrize("second", PULSES)
def test_the_answer_to_order_is_the_event_that_the_wording_asks_for(first: str, second: str) -> None:
    order = PulsePair(Pulse(first, 0, 12), Pulse(second, 2, 13))
    for seed in range(20):
        asked = ask(order, seed)["order"]
        asks_last = {"last", "second", "after"} & set(split_words(asked.text))
        assert asked.answer == f"it {second if asks_last else first}s"


def test_the_answer_to_recolour_is_the_colour_that_the_wording_asks_for() -> None:
    for seed in range(40):
        asked = ask(Recolour("red", 12), seed)["recolour"]
        asks_first = {"first", "start", "before"} & set(split_words(asked.text))
        assert asked.answer == ("cyan" if asks_first else "red")


@pytest.mark.parametrize("kind", ["order", "recolour"])
def test_both_ends_of_an_event_are_asked_equally_often(kind: str) -> None:
    event = {"order": ORDER, "recolour": Recolour("red", 12)}[kind]
    answers = Counter(ask(event, seed)[kind].answer for seed in range(400))
    assert all(count / 400 == pytest.approx(0.5, abs=0.1) for count in answers.values())


def test_static_answers_are_the_facts_of_the_scene() -> None:
    answers = {kind: question.answer for kind, question in ask(Still()).items()}
    assert answers == {
        "colour": "cyan",
        "shape": "ring",
        "background": "navy",
        "size": "large",
        "texture": "plain",
        "number": "one",
    }


@pytest.mark.parametrize("event", [ORDER, Resize("grow", 0.5)])
def test_no_size_is_asked_where_the_item_may_grow(event: Event) -> None:
    assert "size" not in ask(event)


@pytest.mark.parametrize("event", [ORDER, Change("appear", 12)])
def test_no_number_is_asked_where_an_item_comes_or_is_drawn_twice(event: Event) -> None:
    assert "number" not in ask(event)


def test_a_lone_item_that_changes_its_colour_is_asked_no_colour() -> None:
    assert "colour" not in ask(Recolour("red", 12))


def test_left_and_right_are_facts_of_resting_items() -> None:
    scene = Scene((ITEM, LEFT), "navy", Still())
    answers: set[str] = set()
    for seed in range(60):
        asked = next(q for q in questions(scene, Random(seed)) if q.kind == "relation")
        compared_with = asked.text.partition(" of the ")[2].split()[0]
        answers.add(asked.answer)
        assert asked.answer == ("right" if compared_with.strip("?") in {"bar", "red"} else "left")
    assert answers == {"left", "right"}


@pytest.mark.parametrize("event", [Move("up", 20.0), Pace("speed up", "up", 20.0), ORDER])
def test_no_relation_is_asked_of_an_item_that_moves(event: Event) -> None:
    asked = questions(Scene((ITEM, LEFT), "navy", event), Random(0))
    assert "relation" not in {question.kind for question in asked}


def test_no_relation_is_asked_of_items_one_above_the_other() -> None:
    asked = questions(Scene((ITEM, replace(LEFT, x=15.0)), "navy", Still()), Random(0))
    assert "relation" not in {question.kind for question in asked}


def test_temporal_questions_come_first_and_are_marked() -> None:
    for i, scene in enumerate(drawn(300, seed=1)):
        marks = [question.is_temporal for question in questions(scene, Random(i))]
        assert marks == sorted(marks, reverse=True)
        assert any(marks) == (scene.event.kind != "still")


def test_every_kind_is_asked_and_listed_once() -> None:
    asked = {q.kind for i, s in enumerate(drawn(300, seed=1)) for q in questions(s, Random(i))}
    assert sorted(asked) == sorted(TEMPORAL + STATIC)
    assert {name.split()[0] for name in QUESTIONS} == asked
    assert all(len(templates.answers) == 3 for templates in QUESTIONS.values())


@pytest.mark.parametrize("name", QUESTIONS)
def test_every_kind_has_six_wordings(name: str) -> None:
    assert len({*QUESTIONS[name].train, *QUESTIONS[name].held_out}) >= 6


def test_twins_are_asked_the_same_and_only_temporal_answers_differ() -> None:
    for i, scene in enumerate(drawn(900, seed=2)):
        mine, twins = questions(scene, Random(i)), questions(scene.twin(), Random(i))
        assert [question.text for question in mine] == [question.text for question in twins]
        for question, twin in zip(mine, twins, strict=True):
            assert (question.answer != twin.answer) == question.is_temporal
            assert (question.sentence != twin.sentence) == question.is_temporal


@pytest.mark.parametrize(
    ("event", "true", "false"),
    [
        (ORDER, "sways", "grows"),
        (Change("appear", 12), "appear", "disappear"),
        (Pace("slow down", "left", 20.0), "slow down", "speed up"),
        (Resize("shrink", 0.5), "shrink", "grow"),
        (Rotate("clockwise", 90.0, 0.0), "clockwise", "counterclockwise"),
        (Recolour("red", 12), "red", "cyan"),
        (Move("left", 20.0), "left", "right"),
    ],
)
def test_the_order_of_alternatives_does_not_give_the_answer_away(event: Event, true: str, false: str) -> None:
    kind = {"move": "direction"}.get(event.kind, event.kind)
    texts = [f"{ask(event, seed)[kind].text.replace('?', ' ')} " for seed in range(600)]
    pairs = [text for text in texts if f" {true} " in text and f" {false} " in text]
    leading = sum(text.index(f" {true} ") < text.index(f" {false} ") for text in pairs) / len(pairs)
    assert leading == pytest.approx(0.5, abs=0.12)


@pytest.mark.parametrize(("kind", "values"), [("colour", COLOURS), ("shape", SHAPES)])
def test_a_question_never_holds_its_own_answer(kind: str, values: list[str]) -> None:
    for i, scene in enumerate(drawn(300, seed=3)):
        for question in questions(scene, Random(i)):
            if question.kind == kind:
                assert not set(split_words(question.text)) & set(values)


def test_an_item_among_others_is_named_by_what_only_it_has() -> None:
    for i, scene in enumerate(s for s in drawn(600, seed=4) if len(s.items) > 1):
        for question in questions(scene, Random(i)):
            if question.kind in {"background", "texture", "number"} or question.text.startswith(
                (
                    "what happens first",
                    "what happens last",
                    "which comes",
                    "what is the first",
                    "what happens after",
                )
            ):
                continue
            named = set(split_words(question.text)) & {*COLOURS, *SHAPES}
            assert any(named & {item.colour, item.shape} for item in scene.items), question.text


def test_a_sentence_holds_the_answer_and_reads_like_one() -> None:
    for i, scene in enumerate(drawn(600, seed=5)):
        for question in questions(scene, Random(i)):
            assert question.sentence[0].isupper()
            assert question.sentence.endswith(".")
            if question.kind != "count":
                bare = question.answer.removeprefix("it ")
                assert bare in question.sentence.lower()


def test_a_count_is_said_as_people_say_it() -> None:
    for beats, times in zip(BEATS, ("once", "twice", "three times", "four times"), strict=True):
        assert times in ask(Blink(beats, BEATS[0]))["count"].sentence


def test_held_out_wordings_never_occur_in_training() -> None:
    scenes = drawn(300, seed=6)
    trained = {question.text for i, s in enumerate(scenes * 5) for question in questions(s, Random(i))}
    held_out = {
        question.text for i, s in enumerate(scenes) for question in questions(s, Random(i), held_out=True)
    }
    assert not trained & held_out


def test_captions_questions_and_answers_have_146_words_and_marks() -> None:
    used: set[str] = set()
    rng = Random(0)
    for scene in drawn(2700, seed=7):
        for held_out in (False, True):
            used.update(split_words(caption(scene, rng, static_share=0.3, held_out=held_out)))
            for question in questions(scene, rng, held_out=held_out):
                texts = (question.text, question.answer, question.sentence)
                used.update(word for text in texts for word in split_words(text))
    assert len(used) == 146


def test_backgrounds_are_no_item_colours() -> None:
    assert not set(BACKGROUNDS) & set(COLOURS)
