"""Runs inside a container, and says what the process may do there: JSON on standard output."""

import json
import os
from importlib.util import find_spec
from pathlib import Path


def read_first(*paths: str) -> str:
    """The text of the first of these files that is there, else nothing."""
    return next((Path(path).read_text().strip() for path in paths if Path(path).exists()), "")


def is_writable(folder: str) -> bool:
    """Whether a file can be made there."""
    try:
        Path(folder, "probe").touch()
        Path(folder, "probe").unlink()
    except OSError:
        return False
    return True


STATUS = dict(line.split(":", 1) for line in Path("/proc/1/status").read_text().splitlines())
PARTS = json.loads(read_first("/opt/btchat/sbom.cdx.json") or '{"components": []}')["components"]
FACTS = {
    "user": STATUS["Uid"].split(),
    "capabilities": [int(STATUS[name], 16) for name in ("CapPrm", "CapEff", "CapBnd")],
    "no_new_privileges": int(STATUS["NoNewPrivs"]),
    "seccomp": int(STATUS["Seccomp"]),
    "read_only_root": bool(os.statvfs("/").f_flag & os.ST_RDONLY),
    "writable": [
        folder for folder in ("/", "/opt/btchat", "/weights", "/data", "/tmp") if is_writable(folder)
    ],
    "temporary_bytes": os.statvfs("/tmp").f_blocks * os.statvfs("/tmp").f_frsize,
    "memory": read_first("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"),
    "processes": read_first("/sys/fs/cgroup/pids.max", "/sys/fs/cgroup/pids/pids.max"),
    "pip": find_spec("pip") is not None,
    "parts": {part["name"].lower(): part["version"] for part in PARTS},
}
print(json.dumps(FACTS))  # noqa: T201
