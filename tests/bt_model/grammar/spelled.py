"""A vocabulary of bytes, and what it makes of a grammar."""

import random

import numpy as np

from bt_model.backends.echo import EOS, VOCAB, EchoBackend
from bt_model.grammar.grammars import Grammars
from bt_model.grammar.matching import GrammarRun
from bt_model.grammar.vocabulary import Vocabulary

ECHO = EchoBackend()


def data(number: int) -> bytes | None:
    return ECHO.token(number).data


def byte_vocabulary() -> Vocabulary:
    return Vocabulary.of(data, VOCAB, (EOS,))


def byte_grammars() -> Grammars:
    return Grammars(byte_vocabulary, ECHO.encode)


def drawn(run: GrammarRun, seed: int, most: int = 2000) -> bytes:
    """What a model without any sense says under a grammar, to its end."""
    numbers, said = random.Random(seed), bytearray()
    while not run.is_complete and len(said) < most:
        ids = [int(number) for number in np.flatnonzero(run.allowed())]
        token = numbers.choice(ids)
        if token == EOS:
            break
        said.append(token)
        run.accept(token)
    assert not run.fault, run.fault
    return bytes(said)
