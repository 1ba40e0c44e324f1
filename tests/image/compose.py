"""A service of docker-compose.yml as podman's options, so that what is tried is what is shipped."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
FILE = ROOT / "docker-compose.yml"
REPLACED = {"profiles", "build", "image"}
NOT_TRIED = {
    "env_file": "this check sets what it needs",
    "restart": "a server that ends is looked at",
    "deploy": "no GPU is given to a container",
    "logging: max-file": "podman keeps one file",
    "the health check's timer": "podman's is systemd's, so its command is run by hand",
}


@dataclass(frozen=True, slots=True)
class Service:
    """How podman runs one service: `options` before the image, `arguments` after it."""

    options: tuple[str, ...]
    arguments: tuple[str, ...]
    stop_seconds: int
    memory_bytes: int
    processes: int


def load_compose(variables: Mapping[str, str]) -> dict[str, Any]:
    """The file with `${NAME:-default}` replaced, as compose does with its environment."""
    text = FILE.read_text(encoding="utf-8")
    return yaml.safe_load(re.sub(r"\$\{(\w+):-([^}]*)\}", lambda m: variables.get(m[1]) or m[2], text))


def translate_service(compose: dict[str, Any], name: str, prefix: str) -> Service:
    """One service; its volumes get `prefix`. Raises AssertionError for a key that podman is not told of."""
    service = compose["services"][name]
    told = {
        key: value
        for key, value in service.items()
        if key not in {*REPLACED, *NOT_TRIED, "command", "secrets", "volumes"}
    }
    assert told.keys() <= _OPTIONS.keys(), (
        f"{name}: not translated: {', '.join(told.keys() - _OPTIONS.keys())}"
    )
    options = [option for key, value in told.items() for option in _OPTIONS[key](value)]
    options += [f"--volume={prefix}-{volume}" for volume in service.get("volumes", [])]
    for secret in service.get("secrets", []):
        file = (ROOT / compose["secrets"][secret]["file"]).resolve()
        options.append(f"--volume={file}:/run/secrets/{secret}:ro")
    return Service(
        tuple(options),
        tuple(service.get("command", [])),
        count_seconds(service.get("stop_grace_period", "10s")),
        _count_bytes(service.get("mem_limit", "0")),
        service.get("pids_limit", 0),
    )


def count_seconds(text: str) -> int:
    """Of a duration as compose writes it: numbers with units, one after another."""
    return sum(int(number) * _UNITS[unit] for number, unit in re.findall(r"(\d+)(ms|s|m)", text)) // 1000


def _count_bytes(text: str) -> int:
    return int(text.rstrip("kmg")) * 1024 ** (" kmg".index(text[-1]) if text[-1] in "kmg" else 0)


def _confine_log(logging: dict[str, Any]) -> list[str]:
    return [f"--log-driver={logging['driver']}", f"--log-opt=max-size={logging['options']['max-size']}"]


_UNITS = {"ms": 1, "s": 1000, "m": 60_000}
_OPTIONS: dict[str, Callable[[Any], list[str]]] = {
    "init": lambda on: ["--init"] if on else [],
    "stop_grace_period": lambda text: [f"--stop-timeout={count_seconds(text)}"],
    "ports": lambda ports: [f"--publish={port}" for port in ports],
    "environment": lambda values: [f"--env={name}={value}" for name, value in values.items()],
    # podman would add writable folders of its own to a read-only root
    "read_only": lambda on: ["--read-only", "--read-only-tmpfs=false"] if on else [],
    "tmpfs": lambda mounts: [f"--tmpfs={mount}" for mount in mounts],
    "cap_drop": lambda names: [f"--cap-drop={name}" for name in names],
    "security_opt": lambda names: [f"--security-opt={name}" for name in names],
    "mem_limit": lambda size: [f"--memory={size}"],
    "pids_limit": lambda count: [f"--pids-limit={count}"],
    "entrypoint": lambda words: [f"--entrypoint={json.dumps(words)}"],
    "logging": _confine_log,
}
