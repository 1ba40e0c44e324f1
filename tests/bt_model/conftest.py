from pathlib import Path

import pytest

from tests import tiny


@pytest.fixture(scope="session")
def tiny_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A weights folder with the tiny models."""
    folder = tmp_path_factory.mktemp("weights")
    tiny.write_model_folder(folder)
    return folder
