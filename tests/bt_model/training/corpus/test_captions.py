from random import Random
from string import Formatter

import pytest

from bt_model.training.corpus.captions import CAPTIONS, Templates, caption
from bt_model.training.corpus.questions import QUESTIONS
from bt_model.training.corpus.scene import Order, Scene
from bt_model.training.corpus.splits import scenes
from bt_model.training.corpus.vocabulary import split_words, vocabulary

EVENT_WORDS = {
    *("left", "right", "up", "down", "moves", "goes", "slides", "travels", "moving"),
    *("appears", "disappears", "blinks", "grows", "jumps", "sways"),
}


@pytest.fixture(scope="module")
def drawn() -> list[Scene]:
    return scenes("train", 400, seed=1)


def all_captions(scene: Scene, held_out: bool, kind: str | None = None) -> set[str]:
    rng = Random(0)
    share = 1.0 if kind == "still" else 0.0
    return {caption(scene, rng, static_share=share, held_out=held_out) for _ in range(100)}


@pytest.mark.parametrize("name", [*CAPTIONS, *QUESTIONS])
def test_held_out_wordings_are_no_training_wordings(name: str) -> None:
    templates = (CAPTIONS | QUESTIONS)[name]
    assert len(templates.held_out) == 2
    assert not set(templates.train) & set(templates.held_out)


@pytest.mark.parametrize("kind", CAPTIONS)
def test_every_event_has_six_training_captions(kind: str) -> None:
    assert len(set(CAPTIONS[kind].train)) >= 6


@pytest.mark.parametrize("templates", [CAPTIONS, QUESTIONS])
def test_held_out_wordings_need_no_word_that_training_lacks(templates: dict[str, Templates]) -> None:
    trained = {word for group in templates.values() for text in group.train for word in split_words(text)}
    unseen = {word for group in templates.values() for text in group.held_out for word in split_words(text)}
    assert unseen <= trained


def test_held_out_captions_never_occur_in_training(drawn: list[Scene]) -> None:
    for scene in drawn[:40]:
        assert not all_captions(scene, held_out=True) & all_captions(scene, held_out=False)


def test_static_captions_say_nothing_of_the_event(drawn: list[Scene]) -> None:
    rng = Random(1)
    for scene in drawn:
        assert not EVENT_WORDS & set(split_words(caption(scene, rng, static_share=1.0)))


def test_the_share_of_static_captions_is_as_asked(drawn: list[Scene]) -> None:
    rng = Random(2)
    moving = [scene for scene in drawn if scene.event.kind != "still"]
    texts = [caption(scene, rng, static_share=0.3) for scene in moving * 10]
    static = sum(not EVENT_WORDS & set(split_words(text)) for text in texts) / len(texts)
    assert static == pytest.approx(0.3, abs=0.03)


def test_event_captions_of_twins_differ_in_the_event_only(drawn: list[Scene]) -> None:
    for i, scene in enumerate(drawn):
        words = caption(scene, Random(i)).split()
        twin = caption(scene.reversed(), Random(i)).split()
        changed = {word for pair in zip(words, twin, strict=True) if pair[0] != pair[1] for word in pair}
        assert changed <= EVENT_WORDS
        assert bool(changed) == (scene.event.kind != "still")


def test_events_are_told_in_their_order(drawn: list[Scene]) -> None:
    rng = Random(3)
    for scene in drawn:
        if isinstance(scene.event, Order):
            words = caption(scene, rng).split()
            assert words.index(f"{scene.event.first.name}s") < words.index(f"{scene.event.second.name}s")


def test_every_caption_names_colour_shape_and_background(drawn: list[Scene]) -> None:
    rng = Random(4)
    for scene in drawn:
        words = caption(scene, rng, static_share=0.3).split()
        assert {scene.item.colour, scene.item.shape, scene.background} <= set(words)


def test_captions_fit_24_tokens_with_both_end_marks(drawn: list[Scene]) -> None:
    rng = Random(5)
    for scene in drawn:
        for held_out in (False, True):
            assert len(split_words(caption(scene, rng, held_out=held_out))) <= 22


def test_templates_use_only_placeholders_that_their_event_fills() -> None:
    allowed = {"still": set(), "move": {"way"}, "change": {"verb"}, "order": {"first", "second"}}
    for kind, templates in CAPTIONS.items():
        for text in (*templates.train, *templates.held_out):
            used = {name for _, name, _, _ in Formatter().parse(text) if name}
            assert used == allowed[kind] | {"item", "ground"}


def test_the_vocabulary_is_sorted_and_unique() -> None:
    words = vocabulary()
    assert words == sorted(set(words))


def test_the_vocabulary_is_lower_case() -> None:
    assert all(word == word.lower() for word in vocabulary())
