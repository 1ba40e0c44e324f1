import pytest

from tests.bt_model.training.instruct.videos import Videos, write_videos


@pytest.fixture(scope="session")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Videos:
    """Six clips with their dialogues beside a tiny chat model."""
    return write_videos(tmp_path_factory.mktemp("videos"))
