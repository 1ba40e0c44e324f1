import pytest

from lab.model import EmbeddedModel
from tests import tiny


@pytest.fixture
def model(tmp_path_factory: pytest.TempPathFactory) -> EmbeddedModel:
    """All parts of a tiny model, awake; a test may train them."""
    return tiny.model(tmp_path_factory.mktemp("tokenizers"))
