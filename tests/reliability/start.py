"""Starts that cannot succeed: each ends soon, says why in one line, and never listens."""

import contextlib
import io
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from server.__main__ import main
from tests.reliability.goal import Figure, Goal

_MAX_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong, and a word that its line must have."""

    flags: tuple[str, ...]
    word: str
    variables: Mapping[str, str] = field(default_factory=dict[str, str])
    is_late: bool = False  # only the engine process can tell


def _faults(folder: Path, port: int) -> dict[str, Fault]:
    """Each with the name of what is wrong."""

    def file(name: str, content: bytes) -> str:
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        return str(path)

    def keys(content: bytes) -> tuple[str, str]:
        return ("--api-keys-file", file(f"{len(content)}.keys", content))

    text = file("file", b"text")
    broken = file("broken/broken.model.json", b"{")
    return {
        "port in use": Fault(("--port", str(port)), "choose another port"),
        "port that is none": Fault(("--port", "65536"), "65536"),
        "host that is no name": Fault(("--host", "no.such.host.invalid"), "no.such.host.invalid"),
        "host of another machine": Fault(("--host", "192.0.2.1"), "choose another host"),
        "data folder that is a file": Fault(("--data-dir", text), "allowed: a folder"),
        "data folder below a file": Fault(("--data-dir", f"{text}/data"), "data"),
        "data folder that cannot be made": Fault(("--data-dir", "/proc/data"), "/proc/data"),
        "weights folder that is not there": Fault(("--weights-dir", "/nowhere"), "/nowhere"),
        "weights folder that is a file": Fault(("--weights-dir", text), "allowed: a folder"),
        "model that is not there": Fault(("--model", "gone"), "gone"),
        "model file that is no JSON": Fault(("--model", broken), "broken.model.json", is_late=True),
        "device of no kind": Fault(("--device", "gpu"), "allowed: auto, cpu, cuda", is_late=True),
        "device that is not there": Fault(("--device", "cuda:99"), "cuda:99", is_late=True),
        "keys that are not there": Fault(("--api-keys-file", "/nowhere"), "/nowhere"),
        "keys that are a folder": Fault(("--api-keys-file", str(folder)), str(folder)),
        "keys that are short": Fault(keys(b"short\n"), "8 characters"),
        "keys of which there is none": Fault(keys(b"# none\n"), "keys"),
        "keys that are no text": Fault(keys(b"\xff\xfe" * 20), "keys"),
        "settings that are not there": Fault(("--config", "/nowhere/a.toml"), "/nowhere/a.toml"),
        "settings that are no TOML": Fault(("--config", file("a.toml", b"port = = 1")), "a.toml"),
        "setting that is unknown": Fault(("--config", file("b.toml", b"prot = 1")), "prot"),
        "setting of another type": Fault(
            ("--config", file("c.toml", b"max_requests = true")), "max_requests"
        ),
        "variable that is unknown": Fault((), "BTCHAT_PROT", {"BTCHAT_PROT": "1"}),
        "variable of another type": Fault((), "max_requests", {"BTCHAT_MAX_REQUESTS": "many"}),
        "secrets that are not there": Fault((), "/nowhere", {"BTCHAT_SECRETS_DIR": "/nowhere"}),
        "level of no log": Fault(("--log-level", "loud"), "loud"),
        "grace below nothing": Fault(("--grace-seconds", "-1"), "-1"),
    }


def _bad_starts(is_full: bool) -> Figure:
    start = _in_a_process if is_full else _here
    with tempfile.TemporaryDirectory() as name, socket.create_server(("127.0.0.1", 0)) as taken:
        folder = Path(name)
        faults = _faults(folder, taken.getsockname()[1])
        bad: dict[str, str] = {}
        slowest = 0.0
        for title, fault in faults.items():
            if fault.is_late and not is_full:
                continue
            begin = time.monotonic()
            code, lines = start(fault, folder)
            slowest = max(slowest, time.monotonic() - begin)
            reasons = [line for line in lines if line.startswith("btchat: ")]
            if (
                not (code in {1, 2} and lines[-1:] == reasons and fault.word in lines[-1])
                or "Traceback" in lines
            ):
                bad[title] = f"{code}, {lines[-1:]}"
            if any(" ready, docs at " in line for line in lines):
                bad[title] = "listens"
    text = f"{len(faults)} faults, slowest {slowest:.1f} s, {len(bad)} not as they should: {bad}"
    return Figure(text, not bad and slowest <= _MAX_SECONDS)


def _places(fault: Fault, folder: Path) -> list[str]:
    given = {"--port": "0", "--data-dir": str(folder / "data")}
    return [part for flag, value in given.items() if flag not in fault.flags for part in (flag, value)]


def _in_a_process(fault: Fault, folder: Path) -> tuple[int, list[str]]:
    command = [sys.executable, "-m", "server", *_places(fault, folder), *fault.flags]
    result = subprocess.run(
        command, env=os.environ | fault.variables, capture_output=True, text=True, timeout=60, check=False
    )
    return result.returncode, result.stderr.splitlines()


def _here(fault: Fault, folder: Path) -> tuple[int, list[str]]:
    """In this process, which has all modules loaded."""
    before = {name: os.environ.get(name) for name in fault.variables}
    os.environ |= fault.variables
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            code = main([*_places(fault, folder), *fault.flags])
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
    return code, said.getvalue().splitlines()


GOALS = (
    Goal(
        "G32",
        "27 configuration faults: exit not 0 <= 5 s, one line with the reason, never ready",
        _bad_starts,
    ),
)
