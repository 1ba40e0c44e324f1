"""Commands that talk to a server: ask, frames, tokens, upload and status."""

import hashlib
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from btchat import Client
from btchat.cli import main
from btchat.client import BtchatAPIError, BtchatConnectionError
from server.settings import Settings
from tests import fakes
from tests.btchat.client.conftest import padded
from tests.server.conftest import QUICK, RunningServer, running

QUESTION = "what happens here"


@pytest.fixture(autouse=True)
def caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))


@pytest.fixture
def url(server: RunningServer) -> list[str]:
    return ["--url", server.url]


def stored(clip: Path, url: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The id of an upload of the clip."""
    assert main(["upload", str(clip), *url]) == 0
    return capsys.readouterr().out.split()[0]


def test_upload_prints_ids_and_facts(clip: Path, url: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["upload", str(clip), str(clip), *url]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("vid_")
    assert first == second  # the second time it is there already
    assert first.endswith(f"  {clip}  96x64 h264, 1.20 s")
    assert main(["upload", str(clip), "--json", *url]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["sha256"] == hashlib.sha256(clip.read_bytes()).hexdigest()
    assert told["facts"]["num_frames"] == 30


def test_one_file_that_fails_does_not_keep_the_others(
    clip: Path, url: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = tmp_path / "text.mp4"
    text.write_text("hello")
    assert main(["upload", "gone.mp4", str(text), str(clip), *url]) == 1
    said = capsys.readouterr()
    assert [line.split()[1] for line in said.out.splitlines()] == [str(clip)]
    gone, refused = said.err.splitlines()
    assert gone.startswith("btchat: gone.mp4: there is no such file")
    assert refused.startswith(f"btchat: {text}: ")
    assert "not a video container" in refused


def test_on_a_terminal_ask_shows_what_it_waits_for_until_the_text_comes(
    clip: Path, url: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = ["ask", str(clip), "!late", *url]  # later than the server holds the status back
    assert main(asked) == 0
    assert "(answer)" not in capsys.readouterr().err
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert main(asked) == 0
    shown, _, after = capsys.readouterr().err.partition("\r\033[K(answer)")
    assert after.startswith("\r\033[K")
    assert "(" not in after
    assert "(answer)" not in shown


@pytest.mark.parametrize("kind", ["file", "id"])
def test_ask_streams_the_answer_of_a_server(
    kind: str, clip: Path, url: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    video = str(clip) if kind == "file" else stored(clip, url, capsys)
    assert main(["ask", video, QUESTION, *url]) == 0
    said = capsys.readouterr()
    assert said.out == f"{QUESTION} \n"
    assert said.err == f"{fakes.CARD.notice}\n"
    assert main(["ask", video, QUESTION, "--model", fakes.OTHER, "--num-frames", "3", "--json", *url]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["text"], told["model"]) == (f"{QUESTION.upper()} ", fakes.OTHER)
    assert told["receipt"]["frames"]["indices"] == [5, 14, 24]
    assert told["usage"]["completion_tokens"] == 3


@pytest.mark.parametrize("flags", [["--model", "FIRST,SECOND"], ["--model", "FIRST", "--model", "SECOND"]])
def test_ask_shows_the_answers_of_several_models(
    flags: list[str], clip: Path, url: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    names = {"FIRST": fakes.MODEL, "SECOND": fakes.OTHER}
    models = [each.replace("FIRST", names["FIRST"]).replace("SECOND", names["SECOND"]) for each in flags]
    assert main(["ask", str(clip), QUESTION, *models, *url]) == 0
    said = capsys.readouterr()
    assert said.out == f"{fakes.MODEL}\n  {QUESTION} \n{fakes.OTHER}\n  {QUESTION.upper()} \n"
    assert said.err == f"{fakes.CARD.notice}\n"
    assert main(["ask", str(clip), QUESTION, *models, "--json", *url]) == 0
    told = json.loads(capsys.readouterr().out)["answers"]
    assert [(each["model"], each["text"]) for each in told] == [
        (fakes.MODEL, f"{QUESTION} "),
        (fakes.OTHER, f"{QUESTION.upper()} "),
    ]


def test_one_of_several_models_that_fails_is_told_beside_the_answers(
    clip: Path, url: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["ask", str(clip), QUESTION, "--model", f"{fakes.MODEL},{fakes.BAD}", *url]) == 1
    said = capsys.readouterr()
    assert said.out.startswith(f"{fakes.MODEL}\n  {QUESTION} \n")
    assert f"btchat: {fakes.BAD}: " in said.err


def test_a_server_is_named_by_a_variable_too(
    clip: Path, server: RunningServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BTCHAT_URL", server.url)
    assert main(["ask", str(clip), QUESTION]) == 0
    assert capsys.readouterr().out == f"{QUESTION} \n"


def test_frames_of_a_server_are_listed_and_written(
    clip: Path, url: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "frames"
    assert main(["frames", str(clip), "--num-frames", "3", "-o", str(output), *url]) == 0
    facts, *lines = capsys.readouterr().out.splitlines()
    assert "96x64 h264, 30 frames at 25 per second, 1.20 s; the model sees 3 frames" in facts
    assert [line.split()[1] for line in lines] == ["5", "14", "24"]
    assert len([path for path in output.iterdir() if path.read_bytes()[:2] == b"\xff\xd8"]) == 3
    assert main(["frames", str(clip), "--num-frames", "3", "--json", *url]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [frame["index"] for frame in told["frames"]] == [5, 14, 24]
    assert told["sampling"]["num_frames"] == 3


def test_tokens_of_a_server_are_written(
    clip: Path, url: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "a.safetensors"
    assert main(["tokens", str(clip), "-o", str(output), *url]) == 0
    assert load_file(output)["tokens"].shape == (3, 4)
    assert capsys.readouterr().out.startswith(f"{output}: tokens 3 x 4 float32, weights ffff")


def test_uploads_are_deleted_or_only_their_pixels(
    clip: Path, server: RunningServer, url: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    padded(clip, tmp_path / "own.mp4", 99)
    video = stored(tmp_path / "own.mp4", url, capsys)
    num_bytes = (tmp_path / "own.mp4").stat().st_size
    assert main(["delete", video, "--keep", "tokens", *url]) == 0
    assert capsys.readouterr().out.startswith(f"{video}  tokens kept: video {num_bytes:,} bytes, index ")
    with Client(server.url) as client:
        assert client.get(video).pixels is False
    assert main(["delete", video, "--json", *url]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["id"], told["deleted"], told["removed"]["file_bytes"]) == (video, True, 0)
    assert main(["delete", video, *url]) == 1
    assert video in capsys.readouterr().err


def test_status_tells_what_a_server_has_and_does(
    server: RunningServer, url: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["status", *url]) == 0
    first, *lines = capsys.readouterr().out.splitlines()
    assert first.startswith(f"{server.url}  ready, btchat ")
    assert any(line.startswith(f"  {fakes.MODEL}") and "loaded" in line for line in lines)
    assert any(line.startswith(f"  {fakes.BAD} ") and line.endswith("not loaded") for line in lines)
    assert any(line.startswith("requests  0 in flight") for line in lines)
    assert any(line.startswith("uploads ") and line.endswith("storage ok") for line in lines)
    assert main(["status", "--json", *url]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["url"], told["ready"], told["uploads"]["storage"]) == (server.url, True, "ok")
    assert told["models"][0]["fingerprint"] == fakes.CARD.model_fingerprint
    assert told["memory_bytes"]["web"] > 1e6


def test_status_of_a_server_that_still_loads_is_no_success(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings.model_validate(QUICK | {"data_dir": tmp_path / "data"})
    monkeypatch.setattr("tests.server.conftest._wait_until_ready", _until_it_listens)
    with running(settings, fakes.command(f"{fakes.SLOW}30")) as server:
        assert main(["status", "--url", server.url]) == 1
    assert capsys.readouterr().out.startswith(f"{server.url}  not ready: ")


def _until_it_listens(url: str, _thread: object) -> None:
    with Client(url) as client:
        for _ in range(100):
            try:
                client.ready()
            except BtchatConnectionError:
                time.sleep(0.1)
            except BtchatAPIError:
                return


def test_a_key_comes_from_a_file_or_a_variable(
    clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    keys, mine, wrong = tmp_path / "keys", tmp_path / "key", tmp_path / "wrong"
    keys.write_text("secret-key\n")
    mine.write_text("secret-key\n")
    wrong.write_text("two words")
    settings = Settings.model_validate(QUICK | {"data_dir": tmp_path / "data", "api_keys_file": keys})
    with running(settings) as server:
        ask = ["ask", str(clip), QUESTION, "--url", server.url]
        assert main(ask) == 1
        assert "this server needs an API key" in capsys.readouterr().err
        assert main([*ask, "--key-file", str(mine)]) == 0
        assert main([*ask, "--key-file", str(wrong)]) == 1
        assert "allowed: a file that holds nothing but one key" in capsys.readouterr().err
        monkeypatch.setenv("BTCHAT_API_KEY", "secret-key")
        assert main(ask) == 0


@pytest.mark.parametrize(
    "command",
    [["ask", "VIDEO", "q"], ["frames", "VIDEO"], ["tokens", "VIDEO", "-o", "a"], ["upload", "VIDEO"]],
)
def test_a_server_that_is_not_there_is_one_line(
    command: list[str], clip: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [str(clip) if each == "VIDEO" else each for each in command]
    assert main([*arguments, "--url", "http://127.0.0.1:1"]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("btchat: no server answers at http://127.0.0.1:1 ")
    assert said.err.count("\n") == 1


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--device", "cuda"], "device is 'cuda'; allowed: none with --url"),
        (["--dtype", "float16"], "dtype is 'float16'; allowed: none with --url"),
        (["--quantise", "nf4"], "quantise is 'nf4'; allowed: none with --url"),
        (["--num-frames", "0"], "sampling.num_frames is 0"),
        (["--temperature", "9"], "temperature is 9"),
        (["--model", "gpt"], "gpt"),
        (["--model", "a,b,a"], "model is 'a,b,a'; allowed: up to 8 different names"),
    ],
)
def test_what_makes_no_sense_with_a_server_is_one_line(
    more: list[str], message: str, clip: Path, url: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["ask", str(clip), QUESTION, *more, *url]) == 1
    said = capsys.readouterr()
    assert (said.out, said.err.count("\n")) == ("", 1)
    assert message in said.err


@pytest.mark.parametrize("command", [["ask", "q"], ["frames"], ["tokens", "-o", "a.safetensors"], ["chat"]])
def test_an_upload_is_not_known_without_a_server(
    command: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    video = "vid_" + "0" * 32
    assert main([command[0], video, *command[1:]]) == 1
    assert "which a server has; name it (--url, BTCHAT_URL), or give a file" in capsys.readouterr().err


def test_the_local_answer_and_the_servers_have_one_form(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    video = "weights/embedded/sample.mp4"
    assert main(["ask", video, "what colour is the circle?", "--json", "--device", "cpu"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["text"], told["model"]) == ("It is blue.", "embedded")
    assert told["receipt"]["frames"]["indices"] == [4, 12, 20, 28, 35, 43, 51, 59]
    assert told["receipt"]["seconds"]["decode"] > 0
    assert set(told["receipt"]["seconds"]) == {"decode", "encode"}
    assert main(["frames", video, "--json"]) == 0
    frames = json.loads(capsys.readouterr().out)
    assert [each["index"] for each in frames["frames"]] == told["receipt"]["frames"]["indices"]
    assert frames["sampling"] == told["receipt"]["sampling"]


def test_published_sets_are_listed_for_machines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["weights", "list", "--json", "--weights-dir", str(tmp_path)]) == 0
    sets = {each["name"]: each for each in json.loads(capsys.readouterr().out)}
    assert sets["llava-v1"]["items"][0]["is_here"] is False
    assert sets["llava-v1"]["bytes"] > 1e9


def test_a_server_is_not_started_by_a_clients_variables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = "from server.command.sources import load_settings; load_settings()"
    monkeypatch.setenv("BTCHAT_URL", "http://x")
    monkeypatch.setenv("BTCHAT_API_KEY", "k")
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    monkeypatch.setenv("BTCHAT_URLS", "http://x")
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 1
