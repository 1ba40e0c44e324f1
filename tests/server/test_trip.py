"""A question on its way from the route to the language model: the files are those that docs/flow.md lists."""

import json
import threading

import pytest

from server.main import engine_command
from server.settings import Settings
from tests import tiny
from tests.server.conftest import QUICK, question, running
from tests.server.trip import ENGINE, WEB
from tests.stacks import Recorder, Stack, documented, files_along

ROUTE = "server/routes/chat.py"  # before it there is middleware
MOST = 10


@pytest.fixture(scope="module")
def stacks(tmp_path_factory: pytest.TempPathFactory, clip: bytes) -> list[Stack]:
    """One question, really asked: the stacks of the web process, then those of the engine process."""
    folder = tmp_path_factory.mktemp("trip")
    tiny.write_model_folder(folder / "weights")
    values = {
        "data_dir": folder / "data",
        "weights_dir": folder / "weights",
        "model": tiny.MODEL,
        "device": "cpu",
    }
    settings = Settings.model_validate(QUICK | values)
    of_engine = folder / "stacks"

    def command(socket_fd: int) -> list[str]:
        python, _, _, *arguments = engine_command(settings)(socket_fd)
        return [python, "-m", "tests.server.trip", str(of_engine), *arguments]

    found = list[Stack]()
    threading.setprofile(Recorder(WEB, found.append))
    try:
        with running(settings, command) as server, server.client() as client:
            threading.setprofile(None)
            video = client.post("/v1/video/uploads", content=clip).json()["id"]
            answer = client.post("/v1/video/chat", json=question(video, max_tokens=3))
            assert answer.status_code == 200, answer.text
    finally:
        threading.setprofile(None)
    return [*found, *map(json.loads, of_engine.read_text().splitlines())]


def test_every_point_was_passed(stacks: list[Stack]) -> None:
    assert len(stacks) == len(WEB) + len(ENGINE)


def test_the_files_are_those_that_the_page_lists(stacks: list[Stack]) -> None:
    trip = files_along(stacks, ROUTE)
    assert trip == documented("A question, file by file")
    assert len(trip) <= MOST
