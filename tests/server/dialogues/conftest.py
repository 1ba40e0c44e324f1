"""A server with a model that takes one video, and one that takes several."""

from collections.abc import Iterator

import httpx
import pytest

from server.settings import Settings
from tests import fakes
from tests.server.conftest import QUICK, RunningServer, running
from tests.server.dialogues.bodies import other, text_body
from tests.server.test_uploads import upload

MODELS = (fakes.MODEL, fakes.MANY)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    settings = Settings.model_validate(
        QUICK | {"data_dir": tmp_path_factory.mktemp("data"), "decode_workers": 2}
    )
    with running(settings, fakes.command(*MODELS)) as server:
        yield server


@pytest.fixture
def client(shared: RunningServer) -> Iterator[httpx.Client]:
    with shared.client() as client:
        client.post("/v1/chat/completions", json=text_body("hello")).raise_for_status()  # the model is loaded
        yield client


@pytest.fixture
def first(client: httpx.Client, clip: bytes) -> str:
    return upload(client, other(clip))


@pytest.fixture
def second(client: httpx.Client, clip: bytes) -> str:
    return upload(client, other(clip))
