import pytest

from tests.bt_model.training.pretrain.corpus import Corpus, write_corpus


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """Twelve clips with captions beside a tiny CLIP."""
    return write_corpus(tmp_path_factory.mktemp("corpus"))
