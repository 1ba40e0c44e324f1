"""The command line itself: its names, its help, and how it ends."""

import errno
import os
import re
import socket
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Literal, get_args, get_origin

import pytest

from bt_model.assembly.catalog import BUILT_IN
from btchat.cli import command_line, main
from lab.shapes.events import KINDS
from server.settings import Settings


@pytest.mark.parametrize("command", [[], ["train"], ["weights"], ["corpus"], ["eval"]])
def test_without_a_command_the_usage_is_shown(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(command) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith(f"Usage: {' '.join(['btchat', *command])} COMMAND")
    assert captured.out == ""


def test_the_module_is_the_command() -> None:
    command = [sys.executable, "-m", "btchat"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr[:13]) == (2, "Usage: btchat")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["aks"], 'Unknown command "aks". Did you mean "ask"?'),
        (["ask", "a.mp4"], "QUESTION"),
        (
            ["ask", "a.mp4", "q", "--max-token", "3"],
            "Unknown option: --max-token. Did you mean --max-tokens?",
        ),
        (
            ["ask", "a.mp4", "q", "--max-tokens", "x"],
            'for --max-tokens: unable to convert "x" into int',
        ),
        (["frames", "a.mp4", "--strategy", "best"], "uniform"),
        (["tokens", "a.mp4"], "--output"),
        (["serve", "--port", "70000"], "port is '70000'; allowed: a whole number, 0 to 65535"),
        (["demo", "--port", "70000"], "port is 70000; allowed: a whole number, 0 to 65535"),
        (["demo", "--port=-5"], "port is -5; allowed: a whole number, 0 to 65535"),
        (["serve", "--decoder", "opencv"], "decoder is 'opencv'; allowed: pyav, decord"),
    ],
)
def test_a_command_line_that_makes_no_sense_is_one_line_and_code_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("btchat: ")
    assert captured.err.count("\n") == 1
    assert message in captured.err


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        (["frames", "a.mp4", "-o", "FILE"], "a file"),
        (["models", "--weights-dir", "FILE"], "a file"),
        (["weights", "fetch", "bt-adapter", "--weights-dir", "FILE"], "a file"),
        (["corpus", "make", "--out", "FILE"], "a file"),
        (["train", "embedded", "--out", "FILE"], "a file"),
        (["train", "embedded", "--work", "FILE"], "a file"),
        (["train", "ablate", "--out", "FOLDER"], "a folder"),
        (["tokens", "a.mp4", "-o", "FOLDER"], "a folder"),
        (["tokens", "a.mp4", "-o", "PIPE"], "a device, pipe, socket or link"),
        (["tokens", "a.mp4", "-o", "LINK"], "a device, pipe, socket or link"),
        (["train", "ablate", "--out", "PIPE"], "a device, pipe, socket or link"),
        (["train", "export", "--out", "PIPE"], "a device, pipe, socket or link"),
        (["frames", "a.mp4", "-o", "PIPE"], "a file"),
    ],
)
def test_a_path_of_the_wrong_kind_is_told_before_any_work(
    arguments: list[str], kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = {
        "FILE": tmp_path / "file",
        "FOLDER": tmp_path,
        "PIPE": tmp_path / "pipe",
        "LINK": tmp_path / "link",
    }
    paths["FILE"].touch()
    os.mkfifo(paths["PIPE"])
    paths["LINK"].symlink_to(paths["FILE"])
    assert main([str(paths.get(each, each)) for each in arguments]) == 2
    assert f" is {kind}; allowed: a " in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["corpus", "make", "--out", "/proc/new"],
        ["tokens", "a.mp4", "-o", "/proc/new"],
        ["weights", "fetch", "bt-adapter", "--weights-dir", "/proc/new/weights"],
    ],
)
def test_a_place_that_takes_nothing_new_is_told_before_any_work(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert "cannot be made, as /proc takes no new files; choose another place" in capsys.readouterr().err


def test_a_folder_of_weights_that_is_not_there_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = tmp_path / "gone"
    assert main(["models", "--weights-dir", str(gone)]) == 2
    assert f"weights_dir is '{gone}'; allowed: a folder that exists" in capsys.readouterr().err
    assert main(["weights", "list", "--weights-dir", str(gone)]) == 0  # fetch makes it


def test_an_empty_variable_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BTCHAT_MODEL", "")
    assert main(["frames", str(BUILT_IN / "embedded" / "sample.mp4")]) == 0


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        (errno.EACCES, "a.mp4: this user may not read or write it; change its permissions"),
        (errno.EROFS, "a.mp4: lies on a read-only file system; choose another place"),
        (errno.ENOSPC, "a.mp4: the disk is full; free some space"),
        (errno.EEXIST, "a.mp4: exists already; choose another place\n"),
        (errno.EIO, "Input/output error"),
    ],
)
def test_what_the_system_refuses_is_a_sentence_with_the_next_step(
    code: int,
    sentence: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def refuse(_folder: Path) -> None:
        raise OSError(code, os.strerror(code), "a.mp4")

    monkeypatch.setattr("btchat.commands.models.table", refuse)
    assert main(["models"]) == 1
    assert capsys.readouterr().err.startswith(f"btchat: {sentence}")


def test_the_demo_does_not_take_another_server_for_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert main(["demo", "--once", "--port", str(port)]) == 1
    assert f"port is {port}: Address already in use; choose another one" in capsys.readouterr().err


def test_a_reader_that_leaves_ends_a_command_without_a_word() -> None:
    command = f"{sys.executable} -m btchat models | true"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert done.stderr == ""


def test_an_interrupted_command_ends_with_its_own_code(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_folder: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("btchat.commands.models.table", interrupt)
    assert main(["models"]) == 130


def test_a_part_that_is_not_installed_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "lab.shapes.exports.corpus", None)
    assert main(["corpus", "make", "--out", "corpus"]) == 1
    said = capsys.readouterr().err
    assert said == "btchat: lab.shapes.exports.corpus is not installed, and this command needs it\n"


def test_the_version_is_that_of_the_distribution(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"{version('btchat')}\n"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_knows_commands_and_flags(shell: Literal["bash", "zsh", "fish"]) -> None:
    script = command_line().generate_completion(shell=shell)
    assert {"pretrain", "--max-tokens", "--stream-hold-seconds"} <= set(re.findall(r"[-\w]+", script))


# Other people's scripts use these names: a command with all of its arguments and options.
COMMANDS = {
    "serve": "--config --host --port --data-dir --model --weights-dir --device --dtype --quantise"
    " --model-memory-bytes --threads --api-keys-file --decoder --log-level --max-upload-bytes"
    " --max-json-bytes --max-chat-bytes --max-requests --max-requests-per-key --decode-workers"
    " --upload-ttl-seconds --body-idle-seconds --decode-seconds --request-seconds --engine-start-seconds"
    " --stream-hold-seconds --stream-stall-seconds --ping-seconds --grace-seconds",
    "demo": "--port --once",
    "chat": "VIDEO --temperature --max-tokens --url --key-file --model --weights-dir --device --num-frames"
    " --fps --start --end --strategy --seed --dtype --quantise",
    "upload": "FILES --json --url --key-file",
    "status": "--json --url --key-file",
    "ask": "VIDEO QUESTION --temperature --max-tokens --json --url --key-file --model --weights-dir --device"
    " --num-frames --fps --start --end --strategy --seed --dtype --quantise",
    "frames": "VIDEO -o --output --json --url --key-file --model --weights-dir --device --num-frames --fps"
    " --start --end --strategy --seed",
    "tokens": "VIDEO -o --output --url --key-file --model --weights-dir --device --num-frames --fps --start"
    " --end --strategy --seed --dtype --quantise",
    "models": "--weights-dir --json",
    "weights list": "--weights-dir --manifest --json",
    "weights fetch": "NAME --dry-run --weights-dir --manifest",
    "weights convert": "SOURCE --out --base --dtype --blocks",
    "weights verify": "NAME --weights-dir",
    "train embedded": "--out --work --seed --threads --precision",
    "train pretrain": "--config --preset --set --work --dry-run --rate --devices --launcher --workers",
    "train export": "--work --out --with-clip",
    "train ablate": "--work --frozen --rows --seeds --workers --precision --out --list --page-only",
    "train instruct": "--config --preset --set --work --dry-run --devices",
    "train features": "--config --preset --set --all-states",
    "eval retrieval": "FILES --json",
    "eval recognition": "FILES",
    "corpus make": "--out --clips --test-clips --side --seed --kinds --most-items --textures --diagonals"
    " --codec --workers",
    "corpus film": "--out --events --seconds --split --seed --twins --side",
}


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_every_command_shows_and_describes_all_that_it_takes(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command.split(), "--help"]) == 0
    printed = set(re.findall(r"[-\w]+", capsys.readouterr().out))
    assert set(COMMANDS[command].split()) <= printed
    arguments = command_line()[command.split(maxsplit=1)[0]]
    for name in command.split()[1:]:
        arguments = arguments[name]
    collection = arguments.assemble_argument_collection(parse_docstring=True)
    assert [each.name for each in collection if each.show and not each.parameter.help] == []
    assert {choice for each in collection for choice in choices(each.hint)} <= printed


def choices(hint: object) -> set[str]:
    """The values of an enumeration, also of one that may be left out."""
    if get_origin(hint) is Literal:
        return set(get_args(hint))
    return {choice for part in get_args(hint) for choice in choices(part)}


def test_every_setting_of_the_server_is_described_and_its_choices_are_shown(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["serve", "--help"]) == 0
    printed = set(re.findall(r"[-\w]+", capsys.readouterr().out))
    for name, field in Settings.model_fields.items():
        assert field.description, name
        assert {f"--{name.replace('_', '-')}", *field.description.split()[:1]} <= printed, name
        assert choices(field.annotation) <= printed, name


def test_kinds_of_events_are_named_where_they_are_chosen(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["corpus", "make", "--help"]) == 0
    assert set(KINDS) <= set(re.findall(r"\w+", capsys.readouterr().out))


def test_help_loads_nothing_heavy() -> None:
    heavy = {"torch", "transformers", "fastapi", "numpy", "av", "pydantic", "httpx"}
    code = f"import sys, btchat.cli as c; c.main(['--help']); sys.exit(bool({heavy} & {{*sys.modules}}))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


def test_what_a_rename_would_destroy_is_no_output(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    assert main(["tokens", str(BUILT_IN / "embedded" / "sample.mp4"), "-o", str(pipe)]) == 2
    assert "a device, pipe, socket or link; allowed: a file" in capsys.readouterr().err
    assert pipe.is_fifo()
