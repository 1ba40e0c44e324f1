"""nginx before the server: from a line of the server's log to the address of a client."""

import json
from pathlib import Path
from shutil import which

import httpx
import pytest

from server.log.request import ID_HEADER
from tests.reliability.connections import proxied
from tests.server.conftest import RunningServer
from tests.server.test_streams import until


@pytest.mark.skipif(not which("nginx"), reason="nginx is not installed")
def test_a_line_of_nginx_has_the_address_and_the_id_of_a_request(
    server: RunningServer, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    with proxied(server.url, log) as url:
        answer = httpx.get(f'{url}/v1/"%0A?token=secret')
        assert until(lambda: answer.headers[ID_HEADER] in log.read_text(encoding="utf-8"))
    lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    line = next(line for line in lines if line["request_id"] == answer.headers[ID_HEADER])
    assert (line["client"], line["method"], line["path"], line["status"]) == (
        "127.0.0.1",
        "GET",
        '/v1/"\n',
        "404",
    )
    assert "secret" not in json.dumps(lines)
