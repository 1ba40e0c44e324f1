"""`btchat chat`: lines from a pipe, and a person at a terminal who presses Ctrl-C."""

import contextlib
import io
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Generator
from pathlib import Path

import pytest

from btchat.cli import main
from tests import fakes
from tests.server.conftest import RunningServer


@pytest.fixture(autouse=True)
def caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def said(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch, *lines: str, options: tuple[str, ...] = ()
) -> int:
    """Type these lines into a dialogue with the server; its exit code."""
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(lines) + "\n"))
    return main(["chat", *options, "--url", server.url])


def test_a_dialogue_goes_on_and_is_saved_with_its_receipts(
    server: RunningServer,
    clip: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "a dialogue.json"
    lines = ["one two", "", "/window 0.2 1", "/frames 2", "three", f"/save {path}", "/quit", "never asked"]
    assert said(server, monkeypatch, *lines, options=(str(clip),)) == 0
    first, *answers = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"vid_\w{32}  clip\.mp4  96x64 h264, 30 frames, 1\.20 s", first)
    assert answers == ["one two ", "three ", f"{path}: 4 messages"]
    saved = json.loads(path.read_text())
    assert [each["content"] for each in saved["messages"]] == ["one two", "one two ", "three", "three "]
    whole, part = (each["receipt"]["sampling"] for each in saved["answers"])
    assert (whole["num_frames"], whole["start"]) == (4, None)
    assert (part["num_frames"], part["start"], part["end"]) == (2, 0.2, 1.0)


def test_videos_and_models_are_chosen(
    server: RunningServer, clip: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = ["hello", f"/upload {clip}", f"/model {fakes.OTHER}", "/models", "now", "/receipt", "/help"]
    assert said(server, monkeypatch, *lines) == 0
    out = capsys.readouterr().out
    assert out.startswith("hello \nvid_")
    assert f"* {fakes.OTHER}  loaded\n" in out or f"* {fakes.OTHER}  not loaded\n" in out
    assert "\nNOW \n{" in out
    assert f'"fingerprint": "{fakes.OTHER_CARD.model_fingerprint}"' in out
    assert "/quit            end" in out
    video = re.search(r"vid_\w{32}", out)
    assert video is not None
    assert said(server, monkeypatch, f"/video {video.group()}", "again", "/clear", "/window", "/frames") == 0
    assert capsys.readouterr().out.endswith("again \n")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("/nothing", "/nothing is not known; allowed: /upload, /video"),
        ("/window 1", "/window 1 is not understood; allowed: /window [A B]"),
        ("/window a b", "/window is a; allowed: seconds"),
        ("/frames many", "/frames is many; allowed: a number of frames"),
        ("/upload", "/upload is not understood; allowed: /upload FILE"),
        ("/upload gone.mp4", "gone.mp4: there is no such file"),
        ("/video vid_0", "vid_0"),
        ("/model gpt", "gpt"),
        ("/receipt", "/receipt has nothing to show; ask a question first"),
        ("/save SAVED", "exists already"),
        ("!too long", "scripted context_length_exceeded"),
    ],
)
def test_what_goes_wrong_is_one_line_and_the_dialogue_goes_on(
    line: str,
    message: str,
    server: RunningServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "saved").touch()
    typed = line.replace("SAVED", str(tmp_path / "saved"))
    assert said(server, monkeypatch, typed, "still here") == 1
    told = capsys.readouterr()
    assert told.out == "still here \n"
    assert told.err.startswith("btchat: ")
    assert told.err.count("\n") == 1
    assert message in told.err


def test_an_answer_that_fails_leaves_no_half_turn(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "saved.json"
    assert said(server, monkeypatch, "!too long", "one", f"/save {path}") == 1
    assert [each["content"] for each in json.loads(path.read_text())["messages"]] == ["one", "one "]


class Terminal:
    """A command that a person sits before."""

    def __init__(self, *arguments: str) -> None:
        self._master, slave = pty.openpty()
        # a session with this terminal, so that Ctrl-C reaches it
        command = ["setsid", "--ctty", sys.executable, "-m", "btchat", *arguments]
        self.process = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave)
        os.close(slave)
        self.shown, self._seen = "", 0

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def give_up(self, line: str) -> None:
        """Type a line and Ctrl-C; again where Python did not hear it, as between two reads."""
        for _ in range(10):
            self.type(f"{line}\x03")
            with contextlib.suppress(AssertionError):
                self.until(">>> ", 2)
                return
        raise AssertionError(self.shown)

    def until(self, text: str, seconds: float = 20) -> None:
        """Read until this is shown, after what was waited for before."""
        deadline = time.monotonic() + seconds
        while text not in self.shown[self._seen :]:
            left = deadline - time.monotonic()
            assert left > 0, self.shown
            assert select.select([self._master], [], [], left)[0], self.shown
            try:
                self.shown += os.read(self._master, 4096).decode(errors="replace")
            except OSError as error:  # the other end is closed
                raise AssertionError(self.shown) from error
        self._seen = self.shown.index(text, self._seen) + len(text)

    def close(self) -> None:
        os.close(self._master)
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


@contextlib.contextmanager
def terminal(*arguments: str) -> Generator[Terminal]:
    made = Terminal(*arguments)
    try:
        yield made
    finally:
        made.close()


def test_ctrl_c_stops_the_answer_and_not_the_dialogue(server: RunningServer, tmp_path: Path) -> None:
    before = server.stats()["fake_cancelled_total"]
    with terminal("chat", "--url", server.url) as person:
        person.until(">>> ")
        person.type("!slow\n")
        person.until(" 20 ")
        person.type("\x03")
        person.until("(stopped)")
        person.until(">>> ")
        person.give_up("half a line")
        person.type("and then\n")
        person.until("and then \r\n")
        person.until(">>> ")
        person.type("\x04")
        assert person.process.wait(20) == 0
    assert server.stats()["fake_cancelled_total"] == before + 1
    assert "!slow" in (tmp_path / "state" / "btchat" / "history").read_text()


def test_a_server_of_its_own_survives_ctrl_c_and_ends_with_the_dialogue() -> None:
    with terminal("chat", "weights/embedded/sample.mp4") as person:
        person.until(">>> ", 100)
        person.give_up("hello")
        time.sleep(1)  # a server that heard it would be gone
        person.type("does the circle appear or disappear?\n")
        person.until("It disappears.")
        (own,) = _children(person.process.pid)
        person.process.send_signal(signal.SIGHUP)  # the terminal is closed
        person.process.wait(50)
    assert not Path(f"/proc/{own}").exists()


def _children(pid: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
