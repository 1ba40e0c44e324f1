"""The log's lines of requests."""

import re
import subprocess
import sys

import pytest

from tests.server.conftest import RunningServer
from tests.server.test_streams import until

LINE = r"GET {path} {status} in \d+\.\d{{3}} s, request {id} from 127\.0\.0\.1"


def lines(caplog: pytest.LogCaptureFixture, count: int = 1) -> list[str]:
    """All lines once there are so many: a client has its answer just before the server has logged it."""

    def written() -> list[str]:
        return [record.getMessage() for record in caplog.records if record.name == "server.middleware.log"]

    assert until(lambda: len(written()) >= count)
    return written()


def test_a_request_has_one_line_with_the_id_that_its_client_has(
    server: RunningServer, caplog: pytest.LogCaptureFixture
) -> None:
    with server.client() as client:
        answered = client.get("/v1/models?token=abc", headers={"authorization": "Bearer secret"})
        missing = client.get("/v1/nothing")
    (first, second) = lines(caplog, 2)
    assert re.fullmatch(
        LINE.format(path="/v1/models", status=200, id=answered.headers["x-request-id"]), first
    )
    assert re.fullmatch(
        LINE.format(path="/v1/nothing", status=404, id=missing.headers["x-request-id"]), second
    )


def test_a_path_stays_in_its_line_and_is_cut(server: RunningServer, caplog: pytest.LogCaptureFixture) -> None:
    with server.client() as client:
        client.get("/v1/a%0Ab%1B%5B1m" + "x" * 5000)
    (line,) = lines(caplog)
    assert line.isprintable()
    assert "/v1/a%0Ab%1B%5B1mxxx" in line
    assert len(line) < 300


def test_probes_are_not_logged_but_their_failures_are(
    server: RunningServer, caplog: pytest.LogCaptureFixture
) -> None:
    with server.client() as client:
        assert client.get("/health/live").is_success
        assert client.post("/metrics").status_code == 405
    assert [line.split(" in ")[0] for line in lines(caplog)] == ["POST /metrics 405"]


@pytest.mark.parametrize(("level", "is_shown"), [("info", True), ("warning", False)])
def test_lines_go_to_the_standard_error_from_the_level_on(level: str, is_shown: bool) -> None:
    code = f"""
import logging.config
from server.middleware.log import log_request, logging_config
logging.config.dictConfig(logging_config({level!r}))
log_request(dict(method="GET", path="/v1/models"), "id", 200, 0.5)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    name = r"\d{4}-\S+ \S+ INFO server\.middleware\.log: "
    wanted = name + r"GET /v1/models 200 in 0\.500 s, request id from unknown\n"
    assert bool(re.fullmatch(wanted, run.stderr)) == is_shown
    assert not run.stdout
    assert is_shown or not run.stderr
