from random import Random

import pytest

from bt_model.errors import InvalidValueError
from lab.shapes.questions import STATIC, TEMPORAL, ClipQuestion, questions
from lab.shapes.slots import is_right, slot
from tests.lab.shapes.hand_drawn import drawn

WHICH_WAY = ("direction", "which way does the circle move?")
LEFT_OR_RIGHT = ("direction", "does the circle move left or right?")
PACE = ("pace", "does the ring speed up or slow down?")
CHANGE = ("change", "does the bar appear or disappear?")
RESIZE = ("resize", "what happens to the small square?")
AT_THE_END = ("recolour", "what colour is the circle at the end?")
RED_TURNS = ("recolour", "what colour does the red circle turn?")
FIRST = ("order", "what happens first, it blinks or it grows?")
AFTER = ("order", "what does the ring do after it blinks?")
TIMES = ("count", "how many times does the cross blink?")
TURN = ("rotate", "which way does the bar turn?")
COLOUR = ("colour", "what colour is the circle?")
BESIDE_RED = ("colour", "what colour is the object beside the red ring?")
SHAPE = ("shape", "what shape is the red object?")
SIZE = ("size", "how large is the object?")
GROUND = ("background", "what colour is the background?")
PATTERN = ("texture", "is the background plain, striped, dotted or checked?")
NUMBER = ("number", "how many objects are there?")
SIDE = ("relation", "which side of the blue square is the red circle on?")

JUDGED: list[tuple[tuple[str, str], str, str, bool]] = [
    # asked, true answer, reply, is it right
    (WHICH_WAY, "left", "left", True),
    (WHICH_WAY, "left", "The circle moves to the left.", True),
    (WHICH_WAY, "right", "It moves from left to right.", True),
    (WHICH_WAY, "left", "It moves from left to right.", False),
    (WHICH_WAY, "up", "It goes upwards, towards the top of the picture.", True),
    (WHICH_WAY, "left", "It speeds up while it moves left.", True),
    (WHICH_WAY, "left", "It moves left and right.", False),
    (WHICH_WAY, "up", "up left", False),
    (WHICH_WAY, "up left", "It moves to the upper left corner.", True),
    (WHICH_WAY, "down right", "down and to the right", True),
    (WHICH_WAY, "left", "It does not move left.", False),
    (WHICH_WAY, "left", "It isn\u2019t moving right, but left.", False),
    (WHICH_WAY, "left", "", False),
    (WHICH_WAY, "left", "The circle is red.", False),
    (LEFT_OR_RIGHT, "right", "Right!", True),
    (LEFT_OR_RIGHT, "right", "left or right", False),
    (PACE, "it speeds up", "it speeds up", True),
    (PACE, "it speeds up", "The ring is accelerating.", True),
    (PACE, "it speeds up", "it gets slower", False),
    (PACE, "it slows down", "Slowing down.", True),
    (PACE, "it slows down", "It speeds up and then slows down.", False),
    (CHANGE, "it disappears", "disappear", True),
    (CHANGE, "it disappears", "The bar vanishes.", True),
    (CHANGE, "it appears", "It disappears.", False),
    (CHANGE, "it disappears", "It appears to disappear.", True),
    (CHANGE, "it appears", "It appears to the left of the ring.", True),
    (CHANGE, "it appears", "It appears, then disappears.", False),
    (RESIZE, "it grows", "The small square gets bigger.", True),
    (RESIZE, "it shrinks", "It shrank.", True),
    (RESIZE, "it shrinks", "It gets larger.", False),
    (AT_THE_END, "blue", "At the end it is blue.", True),
    (AT_THE_END, "blue", "It turns from red to blue.", False),
    (RED_TURNS, "blue", "The red circle turns blue.", True),
    (RED_TURNS, "blue", "It is a red circle.", False),
    (FIRST, "it blinks", "First, it is blinking.", True),
    (FIRST, "it blinks", "It grows.", False),
    (FIRST, "it blinks", "It blinks and grows.", False),
    (AFTER, "it grows", "After it blinks, the ring grows.", True),
    (AFTER, "it grows", "It hops after it blinks.", False),
    (TIMES, "two", "twice", True),
    (TIMES, "two", "It blinks 2 times.", True),
    (TIMES, "three", "It blinks three times.", True),
    (TIMES, "one", "Once.", True),
    (TIMES, "one", "It never blinks.", False),
    (TIMES, "four", "two or four times", False),
    (TIMES, "one", "It blinks 10 times.", False),
    (TURN, "clockwise", "It turns clockwise.", True),
    (TURN, "clockwise", "counterclockwise", False),
    (TURN, "counterclockwise", "It rotates anti-clockwise.", True),
    (TURN, "counterclockwise", "counter clockwise", True),
    (COLOUR, "red", "The circle is red.", True),
    (COLOUR, "red", "reddish", False),
    (COLOUR, "red", "It is not red.", False),
    (COLOUR, "red", "It is red and blue.", False),
    (COLOUR, "red", "It is red on a white background.", True),
    (BESIDE_RED, "blue", "The object beside the red ring is blue.", True),
    (SHAPE, "circle", "The red object is a circle.", True),
    (SHAPE, "circle", "A square.", False),
    (SIZE, "large", "It is quite big.", True),
    (SIZE, "large", "a little object", False),
    (GROUND, "gray", "grey", True),
    (GROUND, "navy", "The background is dark blue.", True),
    (GROUND, "navy", "It is black.", False),
    (PATTERN, "striped", "It has stripes.", True),
    (PATTERN, "dotted", "The background is chequered.", False),
    (NUMBER, "three", "There are 3 objects.", True),
    (NUMBER, "one", "There is a single object.", True),
    (NUMBER, "two", "There are three objects.", False),
    (SIDE, "left", "It is to the left of the square.", True),
    (SIDE, "left", "on the right side", False),
]


@pytest.mark.parametrize(("asked", "true", "reply", "verdict"), JUDGED)
def test_the_judge_agrees_with_people(asked: tuple[str, str], true: str, reply: str, verdict: bool) -> None:
    assert is_right(ClipQuestion(*asked, true, f"{true}."), reply) == verdict


def test_every_true_phrase_and_sentence_is_right() -> None:
    for i, scene in enumerate(drawn(900, seed=1)):
        for question in questions(scene, Random(i), held_out=i % 2 == 0):
            assert is_right(question, question.answer)
            assert is_right(question, question.sentence), question


def test_the_answer_of_the_twin_is_wrong() -> None:
    for i, scene in enumerate(drawn(900, seed=2)):
        for question, twin in zip(
            questions(scene, Random(i)), questions(scene.twin(), Random(i)), strict=True
        ):
            assert is_right(question, twin.answer) != question.is_temporal
            assert is_right(question, twin.sentence) != question.is_temporal


def test_phrase_and_sentence_have_one_value() -> None:
    assert slot("change", "it disappears") == slot("change", "Disappear!") == "disappear"


@pytest.mark.parametrize("kind", TEMPORAL + STATIC)
def test_what_says_nothing_has_no_value(kind: str) -> None:
    assert slot(kind, "I am a chat model and see a clip.") is None


def test_an_unknown_kind_is_refused_by_name() -> None:
    with pytest.raises(InvalidValueError, match="kind is 'smell'; allowed: one of direction, pace"):
        slot("smell", "sweet")
