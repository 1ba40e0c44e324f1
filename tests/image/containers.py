"""Containers as compose would run them: asked over HTTP, looked at from within, and stopped."""

import json
import resource
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.image.compose import ROOT, Service
from tests.image.store import Done, Store

PROBE = (ROOT / "tests" / "image" / "probe.py").read_text(encoding="utf-8")
CLIP = ROOT / "weights" / "embedded" / "sample.mp4"
QUESTION = "does the circle appear or disappear?"
KEY = "a-key-of-the-image-check"


@dataclass(frozen=True, slots=True)
class Container:
    """A service that runs under this name."""

    store: Store
    name: str
    service: Service

    def execute(self, *command: str) -> Done:
        return self.store.podman("exec", self.name, *command, check=False)

    def log(self) -> str:
        done = self.store.podman("logs", self.name, check=False)
        return done.stdout + done.stderr


def run_once(store: Store, target: str, service: Service, *more: str) -> Done:
    """A container of a service until it ends by itself."""
    options = ["--rm", *_settle_host(), *service.options, *more]
    return store.podman("run", *options, store.image(target), *service.arguments, check=False)


@contextmanager
def start(store: Store, target: str, service: Service, *more: str) -> Generator[Container]:
    """A server in the background; killed at the end if it still runs."""
    container = Container(store, f"btchat-image-check-{target}", service)
    options = ["--detach", f"--name={container.name}", *_settle_host(), *service.options, *more]
    store.podman("run", *options, store.image(target), *service.arguments)
    try:
        yield container
    finally:
        store.podman("rm", "--force", "--time=0", container.name, check=False)


def _settle_host() -> list[str]:
    # podman raises limits, which not every root may; its own health checks need systemd's timers
    files, processes = (
        resource.getrlimit(which)[1] for which in (resource.RLIMIT_NOFILE, resource.RLIMIT_NPROC)
    )
    processes = min(processes, int(Path("/proc/sys/kernel/pid_max").read_text()) - 1)
    return [f"--ulimit=nofile={files}:{files}", f"--ulimit=nproc={processes}:{processes}", "--no-healthcheck"]


def wait_for_health(container: Container, seconds: float = 60) -> None:
    """Until docker/healthcheck.py is content, as compose asks it. Raises AssertionError after `seconds`."""
    end = time.monotonic() + seconds
    while container.execute("python", "/opt/healthcheck.py").returncode:
        assert time.monotonic() < end, container.log()
        time.sleep(0.2)


def ask(url: str) -> str:
    """Upload, frames, chat and stream with a key, refused without one; the answer. Raises AssertionError."""
    with httpx.Client(base_url=url, timeout=60) as client:
        while not client.get("/health/ready").is_success:
            time.sleep(0.2)
        assert client.get("/v1/models").status_code == 401
        client.headers["authorization"] = f"Bearer {KEY}"
        assert client.get("/v1/models").status_code == 200
        version = client.get("/version").json()
        assert version["sandbox"] == "full", version["sandbox_reason"]
        upload = client.post("/v1/video/uploads", content=CLIP.read_bytes()).raise_for_status()
        video = upload.json()["id"]
        frames = client.post("/v1/video/frames", json={"video": video}).raise_for_status().json()
        assert frames["frames"], frames
        body = {"video": video, "messages": [{"role": "user", "content": QUESTION}]}
        answer = client.post("/v1/video/chat", json=body).raise_for_status().json()
        text = answer["choices"][0]["message"]["content"]
        assert "disappears" in text, answer
        stream = client.post("/v1/video/chat", json={**body, "stream": True}).raise_for_status().text
        assert _join_stream(stream) == text, stream
    return text


def _join_stream(stream: str) -> str:
    lines = [line.removeprefix("data: ") for line in stream.splitlines() if line.startswith("data: ")]
    assert lines[-1] == "[DONE]"
    choices = [choice for line in lines[:-1] for choice in json.loads(line)["choices"]]
    return "".join(choice["delta"].get("content") or "" for choice in choices)


def inspect_confinement(container: Container) -> str:
    """What compose forbids is not possible within; names the limits that this machine does not keep.

    Raises:
        AssertionError: more is possible than compose allows, or the image holds what it should not.
    """
    probe = container.execute("python", "-c", PROBE)
    assert probe.returncode == 0, probe.stderr
    facts: dict[str, Any] = json.loads(probe.stdout)
    assert facts["user"] == ["10001"] * 4, facts
    assert facts["capabilities"] == [0, 0, 0], facts
    assert facts["no_new_privileges"] == 1, facts
    assert facts["read_only_root"], facts
    assert facts["writable"] == ["/data", "/tmp"], facts
    assert facts["temporary_bytes"] == 256 * 1024**2, facts
    assert not facts["pip"], facts
    assert {"torch", "numpy", "transformers"} <= set(facts["parts"]), facts
    kept = {
        "memory limit": facts["memory"] == str(container.service.memory_bytes),
        "limit of processes": facts["processes"] == str(container.service.processes),
        "filter of system calls": facts["seccomp"] == 2,
    }
    missing = [name for name, is_kept in kept.items() if not is_kept]
    return f"{len(facts['parts'])} parts listed" + (
        f"; NOT kept here: {', '.join(missing)}" if missing else ""
    )


def stop(container: Container) -> float:
    """Seconds from SIGTERM to the end. Raises AssertionError if it did not end by itself."""
    begin = time.monotonic()
    container.store.podman("stop", container.name)
    seconds = time.monotonic() - begin
    code = container.store.podman("inspect", "--format={{.State.ExitCode}}", container.name).stdout.strip()
    # uvicorn ends itself by the same signal once all is done; 137 would be podman's patience at its end
    assert code in {"0", "143"}, f"exit {code}\n{container.log()}"
    return seconds
