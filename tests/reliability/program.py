"""A server as people run it, in processes of its own, and what these hold."""

import atexit
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

from tests import fakes, leaks, tiny
from tests.clips import write_clip
from tests.server.test_main import free_port, succeeds

_START_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Program:
    """`btchat serve` on a port of this machine; its folder holds `data`, `log` and a `clip.mp4`."""

    process: subprocess.Popen[bytes]
    url: str
    folder: Path

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def clip(self) -> bytes:
        return (self.folder / "clip.mp4").read_bytes()

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text(encoding="utf-8")

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    @property
    def engine(self) -> int:
        """The process of the engine as it is now."""
        (pid,) = self._children("--socket-fd")
        return pid

    @property
    def decoders(self) -> list[int]:
        return self._children("bt_model.decoding.child")

    def client(self, **options: Any) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=60, **options)

    def upload(self, content: bytes | None = None) -> str:
        """The id of a video, by default the clip's."""
        with self.client() as client:
            answer = client.post("/v1/video/uploads", content=self.clip if content is None else content)
        assert answer.is_success, answer.text
        return answer.json()["id"]

    def videos(self) -> list[dict[str, Any]]:
        """All that are stored, page by page."""
        found: list[dict[str, Any]] = []
        with self.client() as client:
            more = True
            while more:
                after = {"after": found[-1]["id"]} if found else {}
                page = client.get("/v1/video/uploads", params={"limit": 100, **after}).json()
                found += page["data"]
                more = page["has_more"]
        return found

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples with these labels."""
        with self.client() as client:
            families = text_string_to_metric_families(client.get("/metrics").text)
        samples = [sample for family in families for sample in family.samples if sample.name == name]
        return sum(each.value for each in samples if labels.items() <= each.labels.items())

    def end(self) -> int:
        """Stop it as a signal does; its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)

    def _children(self, of: str) -> list[int]:
        return [pid for pid in leaks.children(self.process.pid) if of in leaks.command_of(pid)]


@contextmanager
def served(
    *flags: str,
    folder: Path | None = None,
    fault: Path | None = None,
    is_fake: bool = False,
    planted: str = "",
) -> Generator[Program]:
    """A server that is ready, on a tiny random model or, quicker, on the engine that only echoes.

    Args:
        flags: of `btchat serve`, such as `--max-batch 1`.
        folder: where it keeps what it has; without one, nowhere after it has ended.
        fault: a file that makes the engine misbehave once it is there (`tests/soak/faulty_engine.py`).
        is_fake: whether the engine echoes.
        planted: code that runs in the web process before it serves: the fault of a control.
    """
    with tempfile.TemporaryDirectory(prefix="btchat-reliability-") as name:
        folder = folder or Path(name)
        port = free_port()
        command = _command(folder, port, fault, planted, is_fake=is_fake)
        if "--decode-workers" not in flags:
            command += ["--decode-workers", "1"]
        write_clip(folder / "clip.mp4")
        with (folder / "log").open("ab") as log:
            process = subprocess.Popen([*command, *flags], stderr=log)
        program = Program(process, f"http://127.0.0.1:{port}", folder)
        try:
            _await_ready(program)
            yield program
        finally:
            process.kill()
            process.wait()


@contextmanager
def one_of_its_own(is_full: bool, *flags: str) -> Generator[Program]:
    """A server with these flags in the full size; else the one that all goals share, started once."""
    if not is_full:
        yield _shared()
        return
    with served(*flags) as program:
        yield program


@cache
def _shared() -> Program:
    """Ends with this process; its batch is so small that some have to wait."""
    stack = ExitStack()
    atexit.register(stack.close)
    return stack.enter_context(served("--max-batch", "8", "--max-requests-per-key", "1000"))


def until(is_so: Any, seconds: float = 10.0) -> float:
    """Seconds until it is so; infinite where it does not come to that in time."""
    begin = time.monotonic()
    while time.monotonic() - begin < seconds:
        if is_so():
            return time.monotonic() - begin
        time.sleep(0.005)
    return float("inf")


def rss_bytes(pid: int) -> int:
    """Memory of a process that no other one has: what it holds of its own."""
    text = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    found = re.search(r"^RssAnon:\s+(\d+) kB$", text, re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024


def quantile(values: Sequence[float], q: float) -> float:
    """A value that a share q of the values does not exceed."""
    return sorted(values)[min(int(q * len(values)), len(values) - 1)]


def completion(text: str, **more: Any) -> dict[str, Any]:
    """A body for /v1/chat/completions, without a video."""
    return {"model": "x", "messages": [{"role": "user", "content": text}]} | more


def spoken(lines: Sequence[str]) -> str:
    """The text of a stream's lines."""
    chunks = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
    return "".join(each["choices"][0]["delta"].get("content") or "" for each in chunks if each.get("choices"))


_FAULTY = """
fault, right = sys.argv.pop(1), main.engine_command
def faulty(settings):
    def command(fd):
        python, _, _, *arguments = right(settings)(fd)
        return [python, "-m", "tests.soak.faulty_engine", fault, *arguments]
    return command
main.engine_command = faulty
"""
_ECHO = """
from tests import fakes
main.engine_command = lambda settings: fakes.command(*settings.model)
main.find = lambda name, weights_dir: None  # the fake engine's models have no files
"""


def _command(folder: Path, port: int, fault: Path | None, planted: str, *, is_fake: bool) -> list[str]:
    code = [planted, _ECHO if is_fake else "", _FAULTY if fault else ""]
    program = "\n".join(
        ("import sys", "from server import __main__, main", *code, "sys.exit(__main__.main())")
    )
    flags = ["--data-dir", str(folder / "data"), "--port", str(port)]
    if is_fake:
        flags += ["--model", fakes.MODEL]
    else:
        if not (folder / "tiny").exists():
            tiny.write_model_folder(folder)
        flags += ["--weights-dir", str(folder), "--model", tiny.MODEL, "--device", "cpu", "--threads", "1"]
    return [sys.executable, "-c", program, *([str(fault)] if fault else []), *flags]


def _await_ready(program: Program) -> None:
    with program.client() as client:
        begin = time.monotonic()
        while not succeeds(client, "/health/ready"):
            ended = program.process.poll() is not None or time.monotonic() - begin > _START_SECONDS
            assert not ended, f"the server did not start: {program.log[-2000:]}"
            time.sleep(0.02)


def is_there(pid: int) -> bool:
    """Whether a process exists, dead ones that nobody waited for included."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
