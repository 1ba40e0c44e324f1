from collections.abc import Iterator

import pytest

from lab.model import EmbeddedModel
from tests import tiny
from tests.bt_model.training.clips import Corpus, write_corpus
from tests.bt_model.training.ranks import stop_server
from tests.bt_model.training.videos import Videos, write_videos


@pytest.fixture
def model(tmp_path_factory: pytest.TempPathFactory) -> EmbeddedModel:
    """All parts of a tiny model, awake; a test may train them."""
    return tiny.model(tmp_path_factory.mktemp("tokenizers"))


@pytest.fixture(scope="module")
def forked_ranks() -> Iterator[None]:
    """For modules that start ranks: no process is left behind them."""
    yield
    stop_server()


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """Twelve clips with captions beside a tiny CLIP."""
    return write_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="session")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Videos:
    """Six clips with their dialogues beside a tiny chat model."""
    return write_videos(tmp_path_factory.mktemp("videos"))
