"""The start: what is refused at once, and what a server does while its model is loaded.

LOAD_SECONDS=30 makes the load take as long as that of large weights.
"""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from bt_model.errors import InvalidValueError
from server.decoding.pool import decode_pool
from server.settings import Settings
from tests import fakes
from tests.server.conftest import error_of
from tests.server.test_main import fake_program, free_port, logged, started, succeeds
from tests.server.test_streams import until

LOAD_SECONDS = float(os.environ.get("LOAD_SECONDS", "3"))
SLOW_MODEL = f"{fakes.SLOW}{LOAD_SECONDS}"
HEALTHCHECK = Path(__file__).parents[2] / "docker" / "healthcheck.py"


def test_a_server_lives_while_its_model_is_loaded_and_says_what_it_waits_for(tmp_path: Path) -> None:
    port = free_port()
    client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20)
    with logged(fake_program(tmp_path, SLOW_MODEL, port)) as process, client:
        assert until(lambda: succeeds(client, "/health/live"), 20)
        begin = time.monotonic()
        assert until(lambda: "file 2 of 3" in client.get("/health/ready").text, 20)
        body = {"model": fakes.MODEL, "messages": [{"role": "user", "content": "a"}]}
        for answer in (client.get("/health/ready"), client.post("/v1/chat/completions", json=body)):
            assert (answer.status_code, error_of(answer)["code"]) == (503, "not_ready")
            progress = rf"the model is being loaded, for \d+ s now: {fakes.MODEL}, file 2 of 3"
            assert re.search(progress, str(error_of(answer)["message"]))
            assert int(answer.headers["retry-after"]) >= 1
        num_probes = 0
        while not client.get("/health/ready").is_success:
            assert client.get("/health/live").elapsed.total_seconds() < 1
            assert subprocess.run([sys.executable, HEALTHCHECK], env=at(port), check=False).returncode == 0
            num_probes += 1
        assert num_probes > 1
        assert time.monotonic() - begin < LOAD_SECONDS + 20
        process.terminate()
        assert process.stderr is not None
        log = process.stderr.read()
    assert f"http://127.0.0.1:{port} ready, docs at http://127.0.0.1:{port}/docs" in log
    assert re.search(rf"btchat \S+; models: {SLOW_MODEL}", log)


def test_a_signal_ends_a_program_that_still_loads(tmp_path: Path) -> None:
    with logged(fake_program(tmp_path, f"{fakes.SLOW}30")) as process:
        assert process.stderr is not None
        assert next(line for line in process.stderr if "startup complete" in line)
        assert until(lambda: len(children_of(process.pid)) > 1, 20)  # a decode child and the engine
        children = children_of(process.pid)
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    assert not [child for child in children if Path(f"/proc/{child}").exists()]


def test_a_keys_file_is_checked_before_a_model_is_loaded(tmp_path: Path) -> None:
    result = started("--port", "0", "--data-dir", str(tmp_path), "--api-keys-file", str(tmp_path / "keys"))
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert str(tmp_path / "keys") in line


REFUSED = {
    "host that is no name": (["--host", "no.such.host.invalid"], "host is 'no.such.host.invalid'"),
    "host of another machine": (["--host", "192.0.2.1"], "choose another host"),
    "device of no kind": (["--device", "gpu"], "allowed: auto, cpu, cuda"),
    "folder of weights that is a file": (["--weights-dir", __file__], "allowed: a folder"),
    "folder of data that is a file": (["--data-dir", __file__], "which is a file; allowed: a folder"),
    "settings that are not there": (["--config", "/nowhere/a.toml"], "/nowhere/a.toml: "),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_wrong_setting_is_named_with_what_is_allowed(tmp_path: Path, name: str) -> None:
    flags, words = REFUSED[name]
    where = [] if "--data-dir" in flags else ["--data-dir", str(tmp_path)]
    result = started("--port", "0", *where, *flags)
    assert result.returncode == 1
    last = result.stderr.splitlines()[-1]
    assert last.startswith("btchat: ")
    assert words in last


def test_a_decoder_that_is_not_installed_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.decoding.pool.find_spec", lambda name: None)
    with pytest.raises(InvalidValueError, match=r"pip install 'btchat\[decord\]'"):
        decode_pool(Settings(decoder="decord"))


def test_a_device_that_is_not_there_is_one_line_and_a_code(tmp_path: Path) -> None:
    result = started("--port", "0", "--data-dir", str(tmp_path), "--device", "cuda:99")
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].startswith("btchat: device is 'cuda:99'; it cannot be used here: ")
    assert "Traceback" not in result.stderr


def test_the_server_runs_on_uvloop(tmp_path: Path) -> None:
    port = free_port()
    with logged(fake_program(tmp_path, port=port)) as process, httpx.Client() as client:
        assert until(lambda: succeeds(client, f"http://127.0.0.1:{port}/health/ready"), 20)
        maps = Path(f"/proc/{process.pid}/maps").read_text(encoding="utf-8")
    assert "uvloop/loop" in maps


def children_of(pid: int) -> list[int]:
    """Those of all its threads."""
    files = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for file in files for child in file.read_text(encoding="ascii").split()]


def at(port: int) -> dict[str, str]:
    return os.environ | {"BTCHAT_PORT": str(port)}
