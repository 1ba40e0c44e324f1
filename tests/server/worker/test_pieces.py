"""Tokens and the text that they are sent with."""

from typing import Any, cast

from bt_model.backends.echo import EOS, EchoBackend
from bt_model.chat import VideoChat
from bt_model.generation.request import Delta, GenRequest, TokenLogprobs, Tokens
from bt_model.types import GenerateOptions
from server.worker.pieces import AnswerPieces
from tests import fakes


def pieces(*stop: str) -> AnswerPieces:
    chat = VideoChat(cast(Any, None), EchoBackend(), fakes.CARD)
    request = GenRequest("a", (Tokens((1, 2, 3)),), 9, frozenset())
    return AnswerPieces(request, chat, GenerateOptions(stop=stop, logprobs=1))


def delta(number: int) -> Delta:
    return Delta((number,), (TokenLogprobs(-0.5, ((EOS, -0.25),)),))


def said(answer: AnswerPieces, data: bytes) -> list[tuple[str, list[str]]]:
    """Text and tokens of each piece."""
    made = [answer.push(delta(byte)) for byte in data]
    return [(piece.text, [entry[0] for entry in piece.logprobs]) for piece in made if piece is not None]


def test_a_token_is_sent_with_its_text_and_the_likeliest_tokens_at_its_place() -> None:
    piece = pieces().push(delta(ord("a")))
    assert piece is not None
    assert piece.logprobs == [["a", b"a", -0.5, [["</s>", None, -0.25]]]]


def test_a_piece_tells_how_many_tokens_there_are_so_far() -> None:
    answer = pieces()
    made = [answer.push(delta(byte)) for byte in "aéb".encode()]
    assert [(each.num_prompt, each.num_new) for each in made if each] == [(3, 1), (3, 3), (3, 4)]


def test_tokens_of_one_character_are_sent_with_it() -> None:
    assert said(pieces(), "é".encode()) == [("é", ["bytes:\\xc3", "bytes:\\xa9"])]


def test_tokens_that_turned_out_to_be_no_stop_string_come_with_the_text_that_was_held_back() -> None:
    assert said(pieces("--"), b"a-b") == [("a", ["a"]), ("-b", ["-", "b"])]


def test_the_tokens_of_a_stop_string_are_not_sent() -> None:
    answer = pieces("--")
    assert said(answer, b"a--") == [("a", ["a"])]
    assert answer.stopped
    assert answer.finish() is None


def test_a_token_without_text_is_sent_at_the_end() -> None:
    answer = pieces()
    assert answer.push(Delta((0xC3,), (TokenLogprobs(-1.0),))) is None
    last = answer.finish()
    assert last is not None
    assert (last.text, last.logprobs) == ("\N{REPLACEMENT CHARACTER}", [["bytes:\\xc3", b"\xc3", -1.0, []]])


def test_who_did_not_ask_gets_none() -> None:
    piece = pieces().push(Delta((ord("a"),)))
    assert piece is not None
    assert piece.logprobs == []
