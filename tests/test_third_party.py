"""A backend from a package of its own, installed beside the server and asked over HTTP."""

import json
import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from btchat.commands.running_server import running_server

PACKAGE = Path(__file__).parent / "third_party"
EMBEDDED = Path(__file__).parent.parent / "weights" / "embedded"
GUIDE = Path(__file__).parent.parent / "docs" / "add-a-backend.md"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package as pip installs it, in a folder of its own."""
    target = tmp_path_factory.mktemp("site")
    source = tmp_path_factory.mktemp("source") / "package"
    subprocess.run(["cp", "-r", str(PACKAGE), str(source)], check=True)
    command = [
        sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index",
        "--disable-pip-version-check", "--target", str(target), str(source),
    ]  # fmt: skip
    subprocess.run(command, check=True, timeout=100)
    return target


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    (folder / "embedded").symlink_to(EMBEDDED)
    (folder / "mine").mkdir()
    model = {
        "id": "mirrored", "backend": "mirror", "tower": "../embedded/clip",
        "adapter": "../embedded/bt_adapter_tuned.safetensors", "gates": [1.0, 1.0],
    }  # fmt: skip
    (folder / "mine" / "mirrored.model.json").write_text(json.dumps(model))
    return folder


def test_a_package_adds_a_backend_that_answers_over_http(
    installed: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(installed))
    settings = {"weights_dir": str(weights)}
    with running_server(tmp_path / "data", model="mirrored", settings=settings) as server:
        video = httpx.post(
            f"{server.url}/v1/video/uploads", content=(EMBEDDED / "sample.mp4").read_bytes(), trust_env=False
        ).json()["id"]
        body = {"video": video, "messages": [{"role": "user", "content": "abc"}]}
        answer = httpx.post(f"{server.url}/v1/video/chat", json=body, trust_env=False, timeout=60)
    assert answer.json()["choices"][0]["message"]["content"] == "cba (65 video tokens)"


def test_the_list_of_models_names_where_a_backend_comes_from(installed: Path, weights: Path) -> None:
    command = [sys.executable, "-m", "btchat.cli", "models", "--weights-dir", str(weights)]
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    listed = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=True, timeout=60
    ).stdout
    assert "mirror (btchat-mirror)" in listed
    assert "mirror           btchat-mirror (btchat_mirror.backend)" in listed
    command.append("--json")
    told = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=True, timeout=60
    ).stdout
    assert {
        "name": "mirror",
        "distribution": "btchat-mirror",
        "module": "btchat_mirror.backend",
    } in json.loads(told)["backends"]


@pytest.mark.parametrize("name", ["pyproject.toml", "btchat_mirror/backend.py"])
def test_the_guide_shows_the_package_as_it_is(name: str) -> None:
    assert (PACKAGE / name).read_text().strip() in GUIDE.read_text()
