"""What the grammar library is told of a tokenizer."""

import numpy as np
import pytest
from tokenizers import Tokenizer as Pipeline
from tokenizers.models import BPE

from bt_model.backends.echo import EOS, VOCAB
from bt_model.errors import InvalidValueError
from bt_model.grammar.matching import GrammarRun, matcher_of
from bt_model.grammar.vocabulary import Vocabulary
from tests.bt_model.grammar.spelled import byte_vocabulary, data


def test_special_tokens_have_no_bytes_and_no_text_becomes_one() -> None:
    vocabulary = byte_vocabulary()
    assert vocabulary.tokens[EOS:] == (b"", b"")
    assert vocabulary.tokens[ord("{")] == b"{"
    assert vocabulary.tokenizer().tokenize_str("</s>") == list(b"</s>")


@pytest.mark.parametrize("missing", ['"', "{", "7"])
def test_a_vocabulary_that_cannot_write_json_says_so(missing: str) -> None:
    def without(number: int) -> bytes | None:
        return b"" if number == ord(missing) else data(number)

    with pytest.raises(InvalidValueError, match=f"has no token for {missing}") as caught:
        Vocabulary.of(without, VOCAB, (EOS,))
    assert (caught.value.code, caught.value.param) == ("unsupported_parameter", "response_format")


def test_without_an_end_nothing_can_end() -> None:
    with pytest.raises(InvalidValueError, match="no token that ends an answer"):
        Vocabulary.of(data, VOCAB, ())


def test_every_end_is_allowed_where_the_answer_may_end() -> None:
    vocabulary = Vocabulary.of(data, VOCAB, (EOS, EOS + 1))
    run = GrammarRun(matcher_of(vocabulary.tokenizer(), '{"type":"integer"}'), VOCAB)
    assert not run.allowed()[[EOS, EOS + 1]].any()
    run.accept(ord("7"))
    assert run.allowed()[[EOS, EOS + 1]].all()


def merging() -> tuple[Vocabulary, Pipeline]:
    """Bytes, and `na` and `name` as the tokenizer merges them; the longest first match would be `nam`."""
    pieces = {chr(byte): byte for byte in range(0x20, 0x7F)} | {"na": 200, "me": 201, "name": 202, "nam": 203}
    pipeline = Pipeline(BPE(pieces, [("n", "a"), ("m", "e"), ("na", "me")]))
    texts = {number: piece for piece, number in pieces.items()}

    return Vocabulary.of(lambda number: texts.get(number, "").encode(), 210, (209,)), pipeline


def test_what_has_one_spelling_only_is_said_as_the_tokenizer_spells_it() -> None:
    vocabulary, pipeline = merging()
    names = '"properties":{"names":{"const":1}},"required":["names"]'
    schema = f'{{"type":"object",{names},"additionalProperties":false}}'
    tokenizer = vocabulary.tokenizer(lambda text: pipeline.encode(text).ids)
    run = GrammarRun(matcher_of(tokenizer, schema), 210)
    said: list[int] = []
    while not run.is_complete:
        said.append(int(np.flatnonzero(run.allowed())[-1]))
        run.accept(said[-1])
    texts = [vocabulary.tokens[number].decode() for number in said]
    assert texts == ["{", '"', "name", "s", '"', ":", "1", "}"]
