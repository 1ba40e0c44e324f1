"""A real server before the fake engine, for clients and commands."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from server.settings import Settings
from tests import fakes
from tests.clips import write_clip
from tests.server.conftest import QUICK, RunningServer, running

MODELS = (fakes.MODEL, fakes.OTHER, fakes.BAD, fakes.MANY)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    settings = Settings.model_validate(QUICK | {"data_dir": tmp_path_factory.mktemp("data"), "model": MODELS})
    with running(settings, fakes.command(*MODELS)) as server:
        yield server


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A good clip of 30 frames, 1.2 seconds."""
    return write_clip(tmp_path_factory.mktemp("clip") / "clip.mp4")
