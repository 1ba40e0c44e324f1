"""The whole program: settings, start and its refusals, routes, health, and the engine's death over HTTP."""

import errno
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Generator, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, cast

import av
import httpx
import pytest

from bt_model.errors import InvalidValueError
from server.connections.listener import listening
from server.main import create_app, engine_command
from server.settings import Settings
from tests import fakes
from tests.server.conftest import QUICK, RunningServer, count, error_of, question, running
from tests.server.test_streams import until

ROUTES = {
    ("post", "/v1/video/uploads"),
    ("get", "/v1/video/uploads"),
    ("get", "/v1/video/uploads/{video_id}"),
    ("delete", "/v1/video/uploads/{video_id}"),
    ("options", "/v1/video/uploads/resumable"),
    ("post", "/v1/video/uploads/resumable"),
    ("head", "/v1/video/uploads/resumable/{upload_id}"),
    ("patch", "/v1/video/uploads/resumable/{upload_id}"),
    ("delete", "/v1/video/uploads/resumable/{upload_id}"),
    ("put", "/v1/video/uploads"),
    ("put", "/v1/video/uploads/{video_id}"),
    ("head", "/v1/video/uploads/{video_id}"),
    ("get", "/v1/video/uploads/{video_id}/frames/{index}.jpg"),
    ("head", "/v1/video/uploads/{video_id}/frames/{index}.jpg"),
    ("get", "/v1/video/uploads/{video_id}/frames/at.jpg"),
    ("head", "/v1/video/uploads/{video_id}/frames/at.jpg"),
    ("get", "/v1/video/uploads/{video_id}/content"),
    ("head", "/v1/video/uploads/{video_id}/content"),
    ("post", "/v1/files"),
    ("get", "/v1/files"),
    ("get", "/v1/files/{file_id}"),
    ("delete", "/v1/files/{file_id}"),
    ("get", "/v1/files/{file_id}/content"),
    ("head", "/v1/files/{file_id}/content"),
    ("post", "/v1/uploads"),
    ("post", "/v1/uploads/{upload_id}/parts"),
    ("post", "/v1/uploads/{upload_id}/complete"),
    ("post", "/v1/uploads/{upload_id}/cancel"),
    ("post", "/v1/video/estimate"),
    ("post", "/v1/video/frames"),
    ("post", "/v1/video/tokens"),
    ("post", "/v1/video/chat"),
    ("post", "/v1/chat/completions"),
    ("post", "/v1/responses"),
    ("post", "/v1/batches"),
    ("get", "/v1/batches"),
    ("get", "/v1/batches/{batch_id}"),
    ("post", "/v1/batches/{batch_id}/cancel"),
    ("get", "/v1/responses/{response_id}"),
    ("delete", "/v1/responses/{response_id}"),
    ("get", "/v1/models"),
    ("get", "/v1/models/{model_id}"),
    ("get", "/health"),
    ("get", "/ping"),
    ("get", "/health/live"),
    ("get", "/health/ready"),
    ("get", "/metrics"),
    ("get", "/version"),
}


def test_the_engine_is_started_with_what_was_set() -> None:
    settings = Settings(model=("a", "b"), dtype="bfloat16", quantise="nf4", model_memory_bytes=99)
    command = list(engine_command(settings)(7))
    for flag, values in {
        "--model": ["a", "b"],
        "--dtype": ["bfloat16"],
        "--quantise": ["nf4"],
        "--model-memory-bytes": ["99"],
    }.items():
        assert [command[i + 1] for i, part in enumerate(command) if part == flag] == values
    plain = engine_command(Settings())(7)
    assert not {"--dtype", "--model-memory-bytes"} & set(plain)


@pytest.mark.parametrize("content", [None, "", "# nothing\n", "short\n"])
def test_a_keys_file_without_keys_is_refused(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "keys"
    if content is not None:
        file.write_text(content)
    settings = Settings(api_keys_file=file)
    with pytest.raises(InvalidValueError, match="keys"):
        create_app(settings, lambda: nullcontext(cast(Any, None)))


def started(*flags: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """`python -m server`, which must end by itself."""
    command = [sys.executable, "-m", "server", *flags]
    return subprocess.run(
        command, env=os.environ | environ, capture_output=True, text=True, timeout=30, check=False
    )


def test_a_start_that_cannot_be_is_one_line_and_a_code(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        result = started("--port", str(taken.getsockname()[1]), "--data-dir", str(tmp_path))
    assert result.returncode == 1
    assert result.stderr.count("\n") == 1
    assert "cannot listen" in result.stderr


def test_a_data_folder_that_is_a_file_is_one_line_and_a_code(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("x")
    result = started("--port", "0", "--data-dir", str(file))
    assert result.returncode == 1
    assert result.stderr.count("\n") == 1
    assert str(file) in result.stderr


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--model", "embedded,gone"], "model is 'gone'; built in and under "),
        (["--weights-dir", "/nowhere"], "weights_dir is '/nowhere'; allowed: a folder that exists"),
    ],
)
def test_models_that_are_not_there_are_told_before_anything_starts(
    flags: list[str], message: str, tmp_path: Path
) -> None:
    result = started("--port", "0", "--data-dir", str(tmp_path / "data"), *flags)
    assert result.returncode == 1
    assert result.stderr.startswith(f"btchat: {message}")
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (errno.EACCES, "this port needs privileges; choose another port"),
        (errno.EADDRINUSE, "Address already in use; choose another port"),
        (errno.EADDRNOTAVAIL, "Cannot assign requested address; choose another host"),
    ],
)
def test_what_is_wrong_with_an_address_is_its_host_or_its_port(
    code: int, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_sock: socket.socket, _address: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("server.connections.listener.socket.socket.bind", refuse)
    with pytest.raises(InvalidValueError, match=f"^cannot listen on 127.0.0.1:80: {message}$"):
        listening(Settings(port=80))


FAKE_SERVER = """
import sys
from pathlib import Path
from server import __main__, main
from tests import fakes
main.engine_command = lambda settings: fakes.command(*settings.model)
main.find = lambda name, weights_dir: None  # the fake engine's models have no files
sys.exit(__main__.main())
"""


def fake_program(folder: Path, model: str = fakes.MODEL, port: int = 0) -> list[str]:
    """The program with the fake engine."""
    flags = ["--data-dir", str(folder), "--model", model, "--port", str(port), "--decode-workers", "1"]
    return [sys.executable, "-c", FAKE_SERVER, *flags]


def test_weights_that_do_not_fit_are_one_line_and_a_code(tmp_path: Path) -> None:
    result = subprocess.run(
        fake_program(tmp_path, "broken"), capture_output=True, text=True, timeout=30, check=False
    )
    *log, last = result.stderr.splitlines()
    assert (result.returncode, last) == (1, f"btchat: {fakes.START_LINE}")
    assert [line for line in log if json.loads(line)["level"] != "info"] == []


@contextmanager
def logged(command: list[str]) -> Generator[subprocess.Popen[str]]:
    """A program whose log can be read; killed at the end."""
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def succeeds(client: httpx.Client, path: str) -> bool:
    """False also where nobody listens yet."""
    try:
        return client.get(path).is_success
    except httpx.TransportError:
        return False


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return sock.getsockname()[1]


@pytest.fixture
def program(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], httpx.Client]]:
    """A server in a process of its own, ready."""
    port = free_port()
    client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20)
    with logged(fake_program(tmp_path, port=port)) as process, client:
        assert until(lambda: succeeds(client, "/health/ready"), 20)
        yield process, client


def test_a_signal_ends_the_program_cleanly(program: tuple[subprocess.Popen[str], httpx.Client]) -> None:
    process, _ = program
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 0


def test_a_stream_may_end_after_a_signal(
    program: tuple[subprocess.Popen[str], httpx.Client], clip: bytes
) -> None:
    process, client = program
    video = client.post("/v1/video/uploads", content=clip).json()["id"]
    words = " ".join(["word"] * 200)
    with client.stream("POST", "/v1/video/chat", json=question(video, words, stream=True)) as answer:
        lines = answer.iter_lines()
        next(lines)
        process.send_signal(signal.SIGTERM)
        assert [line for line in lines if line][-1] == "data: [DONE]"
    process.wait(10)


def test_an_engine_that_keeps_dying_ends_the_program(
    program: tuple[subprocess.Popen[str], httpx.Client], clip: bytes
) -> None:
    process, client = program
    for _ in range(3):
        assert until(lambda: client.get("/health/ready").is_success, 10)
        answer = client.post(
            "/v1/chat/completions",
            json={"model": fakes.MODEL, "messages": [{"role": "user", "content": "!die"}]},
        )
        assert (answer.status_code, error_of(answer)["code"]) == (503, "engine_restarted")
    assert process.wait(15) == 1


def test_the_routes_are_those_that_were_promised(client: httpx.Client) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    assert {(method, path) for path, methods in paths.items() for method in methods} == ROUTES


def test_health_and_version(client: httpx.Client) -> None:
    assert client.get("/health/live").json() == {"status": "ok"}
    assert client.get("/health/ready").json() == {"status": "ok", "model": fakes.MODEL, "storage": "ok"}
    version = client.get("/version").json()
    assert (version["fingerprint"], version["decoder"]) == (fakes.CARD.model_fingerprint, "pyav")
    assert version["ffmpeg"] == {"pyav": av.ffmpeg_version_info}
    assert version["sandbox"] == ("reduced" if version["sandbox_reason"] else "full")
    assert {"limits", "no-new-privileges"} <= set(version["sandbox_parts"])


def test_a_dead_engine_is_not_ready_and_what_ran_says_why(tmp_path: Path, clip: bytes) -> None:
    settings = Settings.model_validate(QUICK | {"data_dir": tmp_path / "data"})
    with running(settings) as server, server.client() as client:
        video = client.post("/v1/video/uploads", content=clip).json()["id"]
        with client.stream(
            "POST", "/v1/video/chat", json=question(video, "!die later", stream=True)
        ) as answer:
            lines = [line for line in answer.iter_lines() if line]
        assert "engine_restarted" in lines[-2]
        assert lines[-1] == "data: [DONE]"
        ready = client.get("/health/ready")
        assert (ready.status_code, error_of(ready)["code"]) == (503, "not_ready")
        assert until(lambda: client.get("/health/ready").is_success, 10)
        assert client.post("/v1/video/chat", json=question(video)).status_code == 200
        assert count(client, "btchat_engine_restarts") == 1


def test_the_web_process_never_loads_torch() -> None:
    code = """
import server.__main__, server.main, sys
sys.exit(bool({"torch", "transformers", "btchat"} & {*sys.modules}))
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_every_answer_has_a_request_id(server: RunningServer) -> None:
    with server.client() as client:
        answers = [client.get(path) for path in ("/health/live", "/nothing", "/metrics", "/v1/models/x")]
    assert len({answer.headers["x-request-id"] for answer in answers}) == 4


def test_an_unforeseen_error_is_500_and_says_nothing(
    client: httpx.Client, server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise ZeroDivisionError("secret /path 0xdeadbeef")

    monkeypatch.setattr("server.routes.health.platform.python_version", fail)
    answer = client.get("/version")
    assert (answer.status_code, error_of(answer)["code"]) == (500, "internal_error")
    assert "secret" not in answer.text
    assert client.get("/health/live").status_code == 200
