"""Dialogues about drawn scenes, as training and serving take them."""

from collections.abc import Sequence
from random import Random

from bt_model.training.data.dialogues import Exchange, VideoDialogue
from bt_model.training.objectives.captioner import CAPTION_REQUEST
from lab.pictures import captions_of
from lab.shapes.questions import ClipQuestion, questions
from lab.shapes.scene import Scene

MOST_QUESTIONS = 3


def dialogue(listed: Sequence[ClipQuestion]) -> VideoDialogue:
    """Questions about one scene, in this order, each answered by its sentence."""
    return VideoDialogue("", tuple(Exchange(each.text, each.sentence) for each in listed))


def question_dialogues(drawn: Sequence[Scene], rng: Random) -> list[VideoDialogue]:
    """A few questions about each scene."""
    return [dialogue(shuffled(questions(scene, rng), rng, MOST_QUESTIONS)) for scene in drawn]


def caption_dialogues(drawn: Sequence[Scene], rng: Random) -> list[VideoDialogue]:
    """The request for a caption of each scene, and the caption as its answer."""
    return [VideoDialogue("", (Exchange(CAPTION_REQUEST, text),)) for text in captions_of(drawn, rng)]


def shuffled(listed: Sequence[ClipQuestion], rng: Random, most: int) -> list[ClipQuestion]:
    """Up to `most` questions in random order; a temporal one is always among them."""
    temporal = [question for question in listed if question.is_temporal]
    others = [question for question in listed if not question.is_temporal]
    picked = temporal + rng.sample(others, min(len(others), most - len(temporal)))
    rng.shuffle(picked)
    return picked
