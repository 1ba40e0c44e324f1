"""`btchat key new`: a key, and a line that a server knows it by."""

from pathlib import Path

import pytest

from btchat.cli import main
from server.keys.file import digest_of, load_keys
from server.settings import Settings


def test_the_key_is_known_by_the_line_which_does_not_hold_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["key", "new", "gateway", "--requests-per-minute", "60"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    key, line = first.removeprefix("key, not shown again: "), second.removeprefix("line for the file:    ")
    assert key not in line
    (tmp_path / "keys").write_text(line)
    (known,) = load_keys(Settings(api_keys_file=tmp_path / "keys")).all
    assert (known.digest, known.name, known.limits.requests_per_minute) == (digest_of(key), "gateway", 60)
    assert len(key) > 40


def test_two_keys_of_a_name_differ(capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        main(["key", "new", "gateway"])
    assert len(set(capsys.readouterr().out.splitlines())) == 4


@pytest.mark.parametrize("arguments", [["two words"], ["a", "--tokens-per-minute", "-1"]])
def test_what_no_line_can_have_is_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["key", "new", *arguments]) in {1, 2}
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "allowed: " in captured.err
