"""Commands that are printed can be typed in the current folder."""

import sys
from pathlib import Path

import pytest

from btchat.commands.invocation import invocation, shown_path


@pytest.fixture
def venv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a virtual environment that nobody activated, and which is the current one."""
    script = tmp_path / ".venv" / "bin" / "btchat"
    script.parent.mkdir(parents=True)
    script.touch(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(sys, "argv", [str(script)])
    return script.parent


def test_a_command_of_an_environment_is_named_by_its_path(venv: Path) -> None:
    assert invocation() == ".venv/bin/btchat"


def test_a_command_that_the_shell_finds_is_named_alone(venv: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(venv))
    assert invocation() == "btchat"


def test_a_module_is_named_with_its_python(venv: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/somewhere/btchat/__main__.py"])
    monkeypatch.setattr(sys, "executable", str(venv / "python"))
    assert invocation() == ".venv/bin/python -m btchat"


def test_paths_are_quoted_and_elsewhere_they_are_whole(venv: Path) -> None:
    assert shown_path(Path("a b.mp4").absolute()) == "'a b.mp4'"
    assert shown_path(Path("/elsewhere/a.mp4")) == "/elsewhere/a.mp4"
