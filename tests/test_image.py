"""The image and compose, as far as files tell: what is copied is there, what is named exists.

`make image-check` builds and runs both.
"""

import re
import shutil
import subprocess
import sys
import tomllib
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import yaml
from pathspec import PathSpec

from server.command.sources import PREFIX
from server.settings import Settings
from tests.image.compose import count_seconds, load_compose, translate_service

ROOT = Path(__file__).parents[1]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
COPIED = [
    source
    for line in re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, flags=re.MULTILINE)
    for source in line.split()[:-1]
]
STAGES = re.findall(r"^FROM \S+ AS (\S+)$", DOCKERFILE, flags=re.MULTILINE)


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))


def in_context() -> set[str]:
    """Tracked files that .dockerignore leaves in the build context; its last matching line counts."""
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    # unlike git's, its patterns begin at the root
    ignored = PathSpec.from_lines("gitignore", [re.sub(r"^!", "!/", line) for line in lines])
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    return {name for name in tracked.stdout.splitlines() if not ignored.match_file(name)}


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="no git checkout, so no list of its files")
@pytest.mark.parametrize("source", sorted(set(COPIED)))
def test_every_file_that_is_copied_is_in_the_context(source: str) -> None:
    assert [name for name in in_context() if name == source or name.startswith(f"{source}/")]


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="no git checkout, so no list of its files")
def test_the_image_gets_the_embedded_models_and_nothing_of_the_laboratory() -> None:
    files = in_context()
    assert {"weights/manifest.toml", "weights/embedded/embedded.model.json"} <= files
    assert not [name for name in files if name.startswith(("lab/", "tests/", "benchmarks/", "docs/"))]


def test_the_images_of_compose_have_this_version_and_their_target(compose: dict[str, Any]) -> None:
    for service in compose["services"].values():
        assert service["image"] == f"btchat:{VERSION}-{service['build']['target']}"


def test_stages_are_built_on_stages(compose: dict[str, Any]) -> None:
    based = re.findall(r"^FROM (\S+) AS", DOCKERFILE, flags=re.MULTILINE)
    copied = re.findall(r"^COPY --from=(\S+)", DOCKERFILE, flags=re.MULTILINE)
    assert {*based, *copied} <= {"${BASE}", *STAGES}
    assert {each["build"]["target"] for each in compose["services"].values()} <= set(STAGES)


def test_a_layer_without_the_code_has_every_requirement_and_those_of_extras() -> None:
    command = [sys.executable, "docker/requirements.py", "gpu"]
    lines = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    assert any(line.startswith("torch") for line in lines)
    assert any(line.startswith("bitsandbytes") for line in lines)


def test_the_base_is_pinned_by_its_digest() -> None:
    assert re.search(r"^ARG BASE=python:3\.\d+-slim-\w+@sha256:[0-9a-f]{64}$", DOCKERFILE, flags=re.MULTILINE)


def test_the_compose_file_is_one_by_the_specification() -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    done = subprocess.run(
        [*command, "docker-compose.yml"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


def test_docker_reads_the_compose_file() -> None:
    command = [shutil.which("docker") or "docker", "compose"]
    if (
        shutil.which("docker") is None
        or subprocess.run([*command, "version"], capture_output=True, check=False).returncode
    ):
        pytest.skip("no docker compose here")
    profiles = ["--profile", "gpu", "--profile", "cpu", "--profile", "fetch"]
    done = subprocess.run(
        [*command, *profiles, "config", "--quiet"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_every_setting_stands_in_the_example_of_an_environment() -> None:
    example = (ROOT / ".env.example").read_text(encoding="utf-8")
    settings = {f"{PREFIX}{name}".upper() for name in Settings.model_fields}
    assert settings == set(re.findall(rf"^#({PREFIX}\w+)=", example, flags=re.MULTILINE))


def test_every_variable_of_image_and_compose_is_a_setting(compose: dict[str, Any]) -> None:
    known = {f"{PREFIX}{name}".upper() for name in Settings.model_fields}
    used = set(re.findall(rf"({PREFIX}[A-Z_]+)=", DOCKERFILE))
    used |= {name for each in compose["services"].values() for name in each["environment"]}
    assert used
    assert used <= known


def test_a_server_is_confined_and_its_files_are_there(compose: dict[str, Any]) -> None:
    assert Path(ROOT, "docker", "no_api_keys.txt").is_file()
    for name in ("cpu", "gpu"):
        service = compose["services"][name]
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["pids_limit"]
        assert service["mem_limit"]
        assert service["logging"]["options"]["max-size"]


def test_a_container_has_longer_to_stop_than_its_server(compose: dict[str, Any]) -> None:
    given = compose["services"]["cpu"]["stop_grace_period"]
    assert given == f"${{BTCHAT_GRACE_SECONDS:-{Settings().grace_seconds}}}s10000ms"
    set_to = load_compose({"BTCHAT_GRACE_SECONDS": "7"})["services"]["cpu"]["stop_grace_period"]
    assert count_seconds(set_to) == 17


def test_podman_is_told_all_that_compose_says_of_a_service(compose: dict[str, Any]) -> None:
    given = load_compose({"PORT": "81", "API_KEYS_FILE": "/keys"})
    for name in compose["services"]:
        translate_service(given, name, "x")
    service = translate_service(given, "gpu", "x")
    assert {
        "--init", "--stop-timeout=40", "--publish=127.0.0.1:81:8000", "--env=BTCHAT_DATA_DIR=/data",
        "--volume=x-weights:/weights:ro", "--volume=x-data:/data",
        "--volume=/keys:/run/secrets/btchat_api_keys:ro",
        "--read-only", "--tmpfs=/tmp:size=256m", "--cap-drop=ALL", "--security-opt=no-new-privileges:true",
        "--memory=32g", "--pids-limit=1024", "--log-driver=json-file",
    } <= set(service.options)  # fmt: skip
    assert service.memory_bytes == 32 * 1024**3
    given["services"]["gpu"]["privileged"] = True
    with pytest.raises(AssertionError, match="gpu: not translated: privileged"):
        translate_service(given, "gpu", "x")


class _Loading(BaseHTTPRequestHandler):
    """A server whose model still loads."""

    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/health/live" else 503)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None: ...


def test_a_container_is_healthy_while_its_model_loads_and_not_where_nobody_listens() -> None:
    def check() -> int:
        command = [sys.executable, str(ROOT / "docker" / "healthcheck.py")]
        environment = {"BTCHAT_PORT": str(server.server_port)}
        return subprocess.run(command, env=environment, capture_output=True, check=False).returncode

    with HTTPServer(("127.0.0.1", 0), _Loading) as server:
        thread = Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        loading = check()
        server.shutdown()
        thread.join()
    assert (loading, check()) == (0, 1)
