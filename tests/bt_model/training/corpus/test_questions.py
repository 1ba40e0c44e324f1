from random import Random

import pytest

from bt_model.training.corpus.captions import caption
from bt_model.training.corpus.questions import Question, questions
from bt_model.training.corpus.scene import (
    BACKGROUNDS,
    CHANGES,
    COLOURS,
    DIRECTIONS,
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
from bt_model.training.corpus.vocabulary import split_words, vocabulary

ITEM = Item("ring", "cyan", diameter=20.0, x=20.0, y=24.0)


def ask(event: Event, seed: int = 0) -> dict[str, Question]:
    return {question.kind: question for question in questions(Scene(ITEM, "navy", event), Random(seed))}


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_the_answer_to_direction_is_the_direction(direction: str) -> None:
    assert ask(Move(direction, 20.0))["direction"].answer == direction


@pytest.mark.parametrize("word", CHANGES)
def test_the_answer_to_change_is_what_it_does(word: str) -> None:
    assert ask(Change(word, 10))["change"].answer == f"it {word}s"


@pytest.mark.parametrize("first", PULSES)
@pytest.mark.parametrize("second", PULSES)
def test_the_answer_to_order_is_the_first_event(first: str, second: str) -> None:
    order = Order(Pulse(first, 0, 12), Pulse(second, 2, 13))
    assert ask(order)["order"].answer == f"it {first}s"


def test_static_answers_are_the_facts_of_the_scene() -> None:
    answers = {kind: question.answer for kind, question in ask(Still()).items()}
    assert answers == {"colour": "cyan", "shape": "ring", "background": "navy", "size": "large"}


def test_no_size_is_asked_where_the_item_may_grow() -> None:
    assert "size" not in ask(Order(Pulse("grow", 0, 12), Pulse("jump", 0, 12)))


def test_temporal_questions_are_marked() -> None:
    asked = ask(Move("up", 20.0))
    assert {kind for kind, question in asked.items() if question.is_temporal} == {"direction"}


def test_twins_are_asked_the_same_and_only_temporal_answers_differ() -> None:
    for i, scene in enumerate(scenes("train", 200, seed=1)):
        mine, twins = questions(scene, Random(i)), questions(scene.reversed(), Random(i))
        assert [question.text for question in mine] == [question.text for question in twins]
        for question, twin in zip(mine, twins, strict=True):
            assert (question.answer != twin.answer) == question.is_temporal


def test_an_order_question_does_not_give_the_answer_by_position() -> None:
    order = Order(Pulse("sway", 0, 12), Pulse("grow", 0, 12))
    texts = [ask(order, seed)["order"].text for seed in range(400)]
    pairs = [text for text in texts if "grows" in text]
    leading = sum(text.index("sways") < text.index("grows") for text in pairs) / len(pairs)
    assert leading == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize(("kind", "values"), [("colour", COLOURS), ("shape", SHAPES)])
def test_a_question_never_holds_its_own_answer(kind: str, values: list[str]) -> None:
    for i, scene in enumerate(scenes("train", 200, seed=2)):
        for question in questions(scene, Random(i)):
            if question.kind == kind:
                assert not set(split_words(question.text)) & set(values)


def test_held_out_wordings_never_occur_in_training() -> None:
    drawn = scenes("train", 200, seed=3)
    trained = {question.text for i, s in enumerate(drawn * 5) for question in questions(s, Random(i))}
    held_out = {
        question.text for i, s in enumerate(drawn) for question in questions(s, Random(i), held_out=True)
    }
    assert not trained & held_out


def test_the_vocabulary_holds_every_text_and_nothing_else() -> None:
    used: set[str] = set()
    rng = Random(0)
    for scene in scenes("train", 3000, seed=4) + scenes("test_combo", 1000, seed=4):
        for held_out in (False, True):
            used.update(split_words(caption(scene, rng, static_share=0.3, held_out=held_out)))
            for question in questions(scene, rng, held_out=held_out):
                used.update(split_words(question.text) + split_words(question.answer))
    assert used == set(vocabulary())


def test_backgrounds_are_no_item_colours() -> None:
    assert not set(BACKGROUNDS) & set(COLOURS)
