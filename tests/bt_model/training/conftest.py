from collections.abc import Iterator

import pytest

from lab.embedded import Model
from tests import tiny
from tests.bt_model.training.ranks import stop_server


@pytest.fixture
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """All parts of a tiny model, awake; a test may train them."""
    return tiny.model(tmp_path_factory.mktemp("tokenizers"))


@pytest.fixture(scope="module")
def forked_ranks() -> Iterator[None]:
    """For modules that start ranks: no process is left behind them."""
    yield
    stop_server()
