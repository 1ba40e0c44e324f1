"""Fixtures of the contract tests: each engine over a tiny decoder, and over one that waits for the test."""

from collections.abc import Iterator

import pytest

from bt_model.generation.llama import Llama
from bt_model.generation.request import Engine
from tests.bt_model.generation.engines import ENGINES, GatedLlama, Make, running
from tests.bt_model.generation.models import tiny


@pytest.fixture
def lm() -> Llama:
    return tiny()


@pytest.fixture(params=list(ENGINES))
def make(request: pytest.FixtureRequest) -> Make:
    return ENGINES[request.param]


@pytest.fixture
def engine(make: Make, lm: Llama) -> Iterator[Engine]:
    with running(make(lm)) as started:
        yield started


@pytest.fixture
def gated() -> GatedLlama:
    model = GatedLlama()
    model.load_state_dict(tiny().state_dict())
    model.is_open = False
    return model.eval()


@pytest.fixture
def slow(make: Make, gated: GatedLlama) -> Iterator[Engine]:
    with running(make(gated)) as started:
        yield started
        gated.is_open = True
