"""The commands that need no server, over tiny models and real videos."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file

from bt_model.assembly.load import load
from bt_model.types import FrameSize, Sampling
from bt_model.video.decode import decode
from btchat.cli import main
from tests import tiny
from tests.clips import ClipSpec, write_clip, write_damaged


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    tiny.write_model_folder(folder)
    return folder


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", ClipSpec(num_frames=30))


@pytest.fixture
def options(weights: Path) -> list[str]:
    return ["--weights-dir", str(weights), "--device", "cpu"]


@pytest.mark.parametrize("change", [{"tower": 5}, {"accept": None}, {"id": None}, {"default_frames": "8"}])
def test_one_odd_model_file_does_not_hide_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: dict[str, object]
) -> None:
    tiny.write_model_folder(tmp_path)
    path = tmp_path / "tiny" / "embedded.model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    (name,) = change
    assert main(["models", "--weights-dir", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert f"cannot be read: {path}: {name} is" in shown
    assert "embedded-clip\n  backend    llava" in shown
    assert main(["models", "--weights-dir", str(tmp_path), "--json"]) == 0
    told = {model["name"]: model.get("error", "") for model in json.loads(capsys.readouterr().out)["models"]}
    assert [name for name, error in told.items() if error] == ["embedded"]
    assert main(["weights", "verify", str(tmp_path / "tiny")]) == 1
    assert f"{name} is" in capsys.readouterr().err


def test_frames_of_a_model_without_a_vision_config_is_one_line(
    tmp_path: Path, video: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny.write_model_folder(tmp_path)
    (tmp_path / "tiny" / "clip" / "config.json").write_text('{"vision_config": []}')
    assert main(["frames", str(video), "--weights-dir", str(tmp_path)]) == 1
    assert "vision_config is []; allowed: an object" in capsys.readouterr().err


def test_ask_prints_the_answer(video: Path, options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ask", str(video), "what happens?", "--max-tokens", "12", *options]) == 0
    first = capsys.readouterr().out
    assert first.strip()
    assert main(["ask", str(video), "what happens?", "--max-tokens", "12", *options]) == 0
    assert capsys.readouterr().out == first


def test_ask_says_on_stderr_what_the_model_will_take(
    video: Path, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    formats = ["--dtype", "bfloat16", "--max-tokens", "2"]
    assert main(["ask", str(video), "what happens?", *formats, *options]) == 0
    line, notice = capsys.readouterr().err.splitlines()
    assert line.startswith("loading embedded: ")
    assert "of weights" in line
    assert "it knows shapes, colours and motions, nothing else" in notice


def test_a_model_that_cannot_fit_is_refused_with_the_figures(
    video: Path, options: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.worker.loader.free_bytes", lambda device: 2**10)
    assert main(["ask", str(video), "what happens?", *options]) == 1
    refusal = r"embedded needs \d\.\d MiB; 0\.0 MiB are free on this device"
    assert re.search(refusal, capsys.readouterr().err)


def test_the_answer_depends_on_the_frames(
    video: Path, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    answers = set[str]()
    for end in ("0.2", "1.2"):
        main(["ask", str(video), "what happens?", "--max-tokens", "12", "--end", end, *options])
        answers.add(capsys.readouterr().out)
    assert len(answers) == 2


def test_tokens_writes_the_models_tokens(
    video: Path, options: list[str], weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "a.safetensors"
    assert main(["tokens", str(video), "-o", str(output), "--num-frames", "6", *options]) == 0
    chat = load(tiny.MODEL, weights, device="cpu")
    frames = decode(video, Sampling(num_frames=6), chat.card.frame_size, 8)
    expected = chat.encode(torch.from_numpy(frames.pixels)[None])[0]
    assert torch.equal(load_file(output)["tokens"], expected)
    with safe_open(output, framework="pt") as file:
        assert file.metadata()["fingerprint"] == chat.card.fingerprint
    assert f"tokens {tiny.P + 1} x {tiny.D}" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]


def test_frames_lists_what_the_model_would_see(
    video: Path, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["frames", str(video), "--num-frames", "3", *options]) == 0
    facts, *lines = capsys.readouterr().out.splitlines()
    assert "96x64 h264, 30 frames at 25 per second, 1.20 s; the model sees 3 frames" in facts
    found = decode(video, Sampling(num_frames=3), FrameSize(tiny.SIDE), 8)
    expected = [f"frame {i:6d}  {s:9.3f} s" for i, s in zip(found.indices, found.timestamps, strict=True)]
    assert lines == expected


@pytest.mark.parametrize("command", ["frames", "ask", "tokens"])
def test_a_number_that_the_model_cannot_take_is_rounded_down_with_a_warning(
    command: str, video: Path, options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = {"ask": ["what?", "--max-tokens", "2"], "tokens": ["-o", str(tmp_path / "a.safetensors")]}
    for number, warning in (("11", "10 frames are used, not 11"), ("10", "")):
        asked = [command, str(video), *more.get(command, []), "--num-frames", number, *options]
        assert main(asked) == 0
        said = capsys.readouterr()
        assert ("frames are used" in said.err) == bool(warning)
        assert warning in said.err
        assert command != "frames" or "the model sees 10 frames" in said.out


@pytest.mark.parametrize("command", ["frames", "ask", "tokens"])
def test_what_is_wrong_with_a_file_is_said_on_stderr(
    command: str, options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_damaged(tmp_path / "a.mkv")
    more = {"ask": ["what?", "--max-tokens", "2"], "tokens": ["-o", str(tmp_path / "a.safetensors")]}
    assert main([command, str(path), *more.get(command, []), "--num-frames", "10", *options]) == 0
    said = capsys.readouterr()
    assert "warning: 20 of 30 frames can be decoded" in said.err
    assert "warning" not in said.out


def test_frames_at_a_rate_are_no_more_than_the_bound(
    video: Path, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["frames", str(video), "--fps", "10", "--max-frames", "3", *options]) == 0
    _, *lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines] == ["5", "15", "25"]


def test_frames_drawn_at_random_are_those_of_the_seed(
    video: Path, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    drawn: list[str] = []
    for seed in ("1", "1", "2"):
        assert main(["frames", str(video), "--strategy", "random", "--seed", seed, *options]) == 0
        drawn.append(capsys.readouterr().out)
    assert drawn[0] == drawn[1] != drawn[2]


def test_frames_writes_them_as_pictures(video: Path, options: list[str], tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"
    assert main(["frames", str(video), "--num-frames", "3", "-o", str(folder), *options]) == 0
    frames = decode(video, Sampling(num_frames=3), FrameSize(tiny.SIDE), 8)
    paths = sorted(folder.iterdir())
    assert [p.name for p in paths] == [f"{n:03d}_frame{i:06d}.jpg" for n, i in enumerate(frames.indices)]
    for path, pixels in zip(paths, frames.pixels, strict=True):
        with Image.open(path) as picture:
            assert np.abs(np.asarray(picture).astype(int) - pixels).mean() < 20


def test_models_lists_what_can_be_loaded(weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "--weights-dir", str(weights)]) == 0
    out = capsys.readouterr().out
    assert [line for line in out.splitlines() if not line.startswith(" ")] == [
        "embedded",
        "embedded-clip",
        "embedded-zeroshot",
        "backends",
    ]
    assert "  adapter    none: CLIP averaged over frames" in out
    assert "  backend    llava (btchat)" in out
    assert "Trained by this project on its own drawn clips" in out


def test_models_are_listed_with_their_files_for_machines(
    weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (weights / "tiny" / "bt_adapter_tuned.safetensors").rename(weights / "tiny" / "gone")
    try:
        assert main(["models", "--weights-dir", str(weights), "--json"]) == 0
    finally:
        (weights / "tiny" / "gone").rename(weights / "tiny" / "bt_adapter_tuned.safetensors")
    told = json.loads(capsys.readouterr().out)
    listed = {model["name"]: {p["part"]: p["bytes"] for p in model["parts"]} for model in told["models"]}
    assert listed["embedded"]["adapter"] is None
    assert listed["embedded"]["tower"] > 0
    assert {"name": "llava", "distribution": "btchat", "module": "bt_model.backends.llava"} in told[
        "backends"
    ]


def complaint(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line of a command that fails."""
    assert main(arguments) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("btchat: ")
    assert captured.err.count("\n") == 1
    return captured.err


@pytest.mark.parametrize("command", [["ask", "q"], ["tokens", "-o", "a.safetensors"], ["frames"]])
def test_a_video_that_is_not_there_is_one_line(
    command: list[str], options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    line = complaint([command[0], "gone.mp4", *command[1:], *options], capsys)
    assert line.startswith("btchat: gone.mp4: there is no such file or folder; check the path")


@pytest.mark.parametrize("command", [["ask", "q"], ["tokens", "-o", "a.safetensors"], ["frames"]])
def test_a_folder_in_the_place_of_a_video_is_told(
    command: list[str], options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = complaint([command[0], str(tmp_path), *command[1:], *options], capsys)
    assert line == f"btchat: {tmp_path}: is a folder; give a file\n"


@pytest.mark.parametrize("command", [["ask", "q"], ["tokens", "-o", "a.safetensors"], ["frames"]])
def test_a_file_that_is_no_video_is_one_line_before_a_model_is_loaded(
    command: list[str], tmp_path: Path, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.mp4"
    path.write_text("hello")
    line = complaint([command[0], str(path), *command[1:], *options], capsys)
    assert "not a video container" in line


def test_an_unknown_model_is_one_line(
    video: Path, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    line = complaint(["ask", str(video), "q", "--model", "gpt", *options], capsys)
    assert line.endswith("there are: embedded, embedded-clip, embedded-zeroshot\n")
    line = complaint(["ask", str(video), "q", "--model", "llava-v1", *options], capsys)
    assert line.endswith("; `btchat weights fetch llava-v1` brings it\n")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--num-frames", "4", "--fps", "2"], "one of the two"),
        (["--num-frames", "0"], "sampling.num_frames is 0"),
        (["--start", "3", "--end", "2"], "sampling.end is 2.0"),
    ],
)
def test_bad_sampling_is_one_line(
    video: Path, options: list[str], capsys: pytest.CaptureFixture[str], flags: list[str], message: str
) -> None:
    assert message in complaint(["frames", str(video), *flags, *options], capsys)


def test_an_output_that_cannot_be_written_is_one_line(
    video: Path, options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "no" / "folder" / "a.safetensors"
    assert str(output.parent) in complaint(["tokens", str(video), "-o", str(output), *options], capsys)
