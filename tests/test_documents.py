"""What README and docs print can be typed: README's blocks run, and every `btchat` command of a page is one.

README is read from top to bottom by a newcomer: one server, the sample clip, the id that the upload gave.
"""

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cyclopts import App

from btchat.cli import command_line
from btchat.commands.running_server import running_server
from server.command.sources import CLIENT_VARIABLES, PREFIX, SECRETS_VARIABLE
from server.settings import Settings

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), ROOT / "weights" / "README.md"])

# blocks that are not run here, by what they hold, and why
NOT_RUN = {
    "make demo": "installs everything into a new environment: make demo-check runs it",
    "docker compose": "needs Docker and a GPU",
    "btchat weights fetch": "downloads 15 GB, and serves it on a GPU",
}
EXPECTED = {
    "btchat ask": "It disappears.",
    "embedded@none": "embedded\n  The circle moves right.\nembedded@pretrained\n  The circle moves left.\n",
    "curl": '"content":"It disappears."',
    "openai": "It disappears.",
}


@dataclass(frozen=True, slots=True)
class Shell:
    """Where blocks run: commands first on the path, and a server in the place of port 8000."""

    path: Path
    url: str

    def run(self, language: str, block: str) -> str:
        code = block.replace("http://localhost:8000", self.url).replace("localhost:8000", self.url)
        command = [sys.executable, "-c", code] if language == "python" else ["bash", "-ec", code]
        environment = {"PATH": f"{self.path}:/usr/bin:/bin", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    folder = tmp_path_factory.mktemp("bin")
    (folder / "btchat").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m btchat "$@"\n')
    (folder / "btchat").chmod(0o755)
    with running_server(tmp_path_factory.mktemp("data")) as server:
        yield Shell(folder, server.url)


def blocks(text: str) -> list[tuple[str, str]]:
    """The fenced blocks of a page, with their languages."""
    return re.findall(r"^ *```(\w*)\n(.*?)^ *```$", text, flags=re.M | re.S)


def test_readmes_blocks_run_as_they_are_printed(shell: Shell) -> None:
    answered, left_out = list[str](), list[str]()
    video = "vid_…"
    for language, block in blocks(README):
        if not language:  # a drawing
            continue
        if skipped := [part for part in NOT_RUN if part in block]:
            left_out += skipped
            continue
        first, *rest = re.split(r"\n\n(?=curl)", block) if language == "bash" else [block]
        said = shell.run(language, first)
        if uploaded := re.search(r"vid_\w+", said):
            video = uploaded.group()
        said += "".join(shell.run(language, part.replace("vid_…", video)) for part in rest)
        answered += [part for part, answer in EXPECTED.items() if part in block and answer in said]
    assert set(answered) == set(EXPECTED)
    assert set(left_out) == set(NOT_RUN)


def test_the_blocks_of_the_page_on_the_api_run(shell: Shell) -> None:
    found = blocks((ROOT / "docs" / "api.md").read_text(encoding="utf-8"))
    assert [language for language, _block in found] == ["sh"] * len(found)
    said = [shell.run("bash", block) for _language, block in found]
    assert all("vid_" in each for each in said)
    (compared,) = [each for each in said if '"choices"' in each]
    assert compared.count('"finish_reason":"stop"') == 3


def commands(text: str) -> Iterator[list[str]]:
    """Every command line of `btchat` in the fenced blocks of a page."""
    for _language, block in blocks(text):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True) if re.match(r"(btchat|\.venv/bin/btchat) ", line) else []
            if words:
                yield words[1:]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_of_a_page_exists_with_its_options(page: Path) -> None:
    app: App = command_line()
    for arguments in commands(page.read_text(encoding="utf-8")):
        app.parse_args(arguments, exit_on_error=False, print_error=False)


def test_every_target_of_make_in_a_page_exists() -> None:
    known = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.M))
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        assert set(re.findall(r"(?:^|`)make ([a-z][a-z-]+)", text, flags=re.M)) <= known, page


def test_every_variable_of_a_page_is_a_setting() -> None:
    known = {f"{PREFIX}{name}".upper() for name in Settings.model_fields} | {
        SECRETS_VARIABLE,
        *CLIENT_VARIABLES,
        "BTCHAT_SOME_NAME",
    }
    for page in PAGES:
        assert set(re.findall(r"BTCHAT_[A-Z_]*[A-Z]", page.read_text(encoding="utf-8"))) <= known, page


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_to_a_file_leads_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!https?:|#)([^)#\s]+)[^)]*\)", text):
        assert (page.parent / target).exists(), target
