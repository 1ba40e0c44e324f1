"""The backend without weights."""

import torch

from bt_model.backends.echo import BEGIN, EOS, EchoBackend
from bt_model.generation.request import Soft, Tokens
from bt_model.types import Turn, VideoTokens

TURNS = (Turn("user", "ab"),)
QUESTION = Tokens((BEGIN, *b"ab", EOS))


def test_the_videos_tokens_stand_before_the_question() -> None:
    soft, question = EchoBackend().segments(TURNS, [VideoTokens(b"key", torch.zeros(3, 4))])
    assert isinstance(soft, Soft)
    assert (soft.key, len(soft.embeds)) == (b"key", 3)
    assert question == QUESTION


def test_without_a_video_there_is_the_question_alone() -> None:
    assert EchoBackend().segments(TURNS, []) == (QUESTION,)


def test_an_answer_that_has_begun_stands_behind_the_question() -> None:
    prompt = EchoBackend().segments((*TURNS, Turn("assistant", "a")), [])
    assert prompt == (Tokens((*QUESTION.ids, *b"a")),)
