import pytest

from lab.embedded import Model
from tests import tiny


@pytest.fixture
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """All parts of a tiny model, awake; a test may train them."""
    return tiny.model(tmp_path_factory.mktemp("tokenizers"))
