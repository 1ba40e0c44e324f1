"""`make image-check`: both targets built, and their containers tried as docker-compose.yml confines them.

Needs root, buildah, podman and runc, and debootstrap where the base cannot be pulled. All that is made lies
in a folder of its own and is deleted at the end; --keep leaves it, so that the next run builds what changed.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import httpx

from tests.image import building, containers
from tests.image.compose import NOT_TRIED, Service, load_compose, translate_service
from tests.image.store import Store

T = TypeVar("T")
PACKAGES = ("buildah", "podman", "runc", "debootstrap")
SERVICES = {"cpu": "cpu", "cuda": "gpu"}
STOP_SECONDS = 5


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.image", description=__doc__)
    parser.add_argument("--port", type=int, default=8048)
    parser.add_argument("--store", type=Path, default=Path("/var/tmp/btchat-image-check"))
    parser.add_argument("--keep", action="store_true", help="leave images and layers for the next run")
    parser.add_argument("targets", nargs="*", default=["cpu", "cuda"], help="cpu, cuda; both by default")
    asked = parser.parse_args()
    missing = [name for name in PACKAGES if shutil.which(name) is None]
    if missing or os.geteuid():
        sys.stderr.write(f"image-check needs root and {', '.join(PACKAGES)}")
        sys.stderr.write(
            f"; missing: {', '.join(missing)}: apt-get install {' '.join(missing)}\n" if missing else "\n"
        )
        return 2
    store = Store(asked.store)
    asked.store.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(dir=asked.store) as folder:
            _check(store, Path(folder), asked.port, asked.targets)
    except (AssertionError, subprocess.SubprocessError, OSError, httpx.HTTPError) as error:
        sys.stderr.write(f"image-check: {error}\n")
        return 1
    finally:
        store.clear(keep_images=asked.keep)
    return 0


def _check(store: Store, folder: Path, port: int, targets: list[str]) -> None:
    base = timed("base", lambda: building.find_base(store, folder))
    say(f"  {base.name}: {base.note}")
    keys = folder / "keys.txt"
    keys.write_text(f"{containers.KEY}\n")
    compose = load_compose({"PORT": str(port), "API_KEYS_FILE": str(keys)})
    for target in targets:
        timed(f"build {target}", lambda target=target: building.build_target(store, target, base, folder))
        say(f"  {store.image_bytes(target) / 1e9:.2f} GB")
        service = translate_service(compose, SERVICES[target], target)
        _try_server(store, target, service, f"http://127.0.0.1:{port}")
    if "cuda" in targets:
        gpu = translate_service(compose, "gpu", "absent")
        timed("cuda without a GPU", lambda: _refuse_to_start(store, gpu))
    fetch = translate_service(compose, "fetch", "fetch")
    timed("fetch", lambda: _try_fetch(store, targets[0], fetch))
    say("not tried: " + "; ".join(f"{key} ({why})" for key, why in NOT_TRIED.items()))


def _try_server(store: Store, target: str, service: Service, url: str) -> None:
    settings = ["--env=BTCHAT_API_KEYS_FILE=/run/secrets/btchat_api_keys", "--env=BTCHAT_DEVICE=cpu"]
    with containers.start(store, target, service, *settings) as container:
        timed(f"{target}: healthy", lambda: containers.wait_for_health(container))
        say(f"  {timed(f'{target}: keys, upload, frames, chat, stream', lambda: containers.ask(url))}")
        say(f"  {timed(f'{target}: confinement', lambda: containers.inspect_confinement(container))}")
        seconds = timed(f"{target}: stop", lambda: containers.stop(container))
        assert seconds <= STOP_SECONDS, f"{seconds:.1f} s to stop: {container.log()}"


def _refuse_to_start(store: Store, service: Service) -> None:
    done = containers.run_once(store, "cuda", service)
    say(f"  {done.stderr.splitlines()[-1]}")
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    assert done.stderr.splitlines()[-1].startswith("btchat: device is 'cuda'"), done.stderr


def _try_fetch(store: Store, target: str, service: Service) -> None:
    """The command starts, and its user may write into the volume that servers read."""
    shown = containers.run_once(store, target, service)
    assert shown.returncode == 0, shown.stderr
    assert "Usage: btchat weights fetch" in shown.stdout, shown.stdout
    writing = replace(service, arguments=("/weights/probe",))
    done = containers.run_once(store, target, writing, '--entrypoint=["touch"]')
    assert done.returncode == 0, done.stderr


def timed(what: str, work: Callable[[], T]) -> T:
    begin = time.monotonic()
    try:
        result = work()
    except Exception:
        say(f"FAILED after {time.monotonic() - begin:.1f} s: {what}")
        raise
    say(f"{time.monotonic() - begin:7.1f} s  {what}")
    return result


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
