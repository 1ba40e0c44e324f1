"""`make wheel-check`: wheel and sdist, installed as a stranger would and tried away from the checkout.

The wheel is installed into a new virtual environment, with what pip finds for it. In an empty folder the demo
answers, models and published weights are listed, and a server answers the official OpenAI client.
"""

import argparse
import hashlib
import os
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from openai import OpenAI

ROOT = Path(__file__).parents[1]
T = TypeVar("T")
QUESTION = "does the circle appear or disappear?"


def build(source: Path, out: Path, *kinds: str) -> None:
    """Wheel, sdist or both (no kind) of a tree into a folder, by the build backend of this environment."""
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), *kinds, str(source)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def digests(wheel: Path) -> dict[str, str]:
    """Every file in a wheel with its hash, but for the list of files, which has the hashes itself."""
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if not name.endswith("/RECORD")]
        return {name: hashlib.sha256(archive.read(name)).hexdigest() for name in names}


def wheel_of_sdist(sdist: Path, folder: Path) -> Path:
    """The wheel that somebody builds who has the sdist alone."""
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    (source,) = folder.iterdir()
    build(source, folder / "dist", "--wheel")
    (wheel,) = (folder / "dist").glob("*.whl")
    return wheel


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.distribution", description=__doc__)
    parser.add_argument("--port", type=int, default=8047)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="btchat-distribution-") as folder:
        _check(Path(folder), asked.port)
    return 0


def _check(folder: Path, port: int) -> None:
    _timed("build both", lambda: build(ROOT, folder / "dist"))
    (wheel,), (sdist,) = (folder / "dist").glob("*.whl"), (folder / "dist").glob("*.tar.gz")
    say(f"  {wheel.name} {_megabytes(wheel)}, {sdist.name} {_megabytes(sdist)}")
    (folder / "source").mkdir()
    again = wheel_of_sdist(sdist, folder / "source")
    assert digests(again) == digests(wheel), "the sdist builds another wheel"
    say("  the sdist builds the same wheel")
    home = folder / "home"
    home.mkdir()
    pip = [sys.executable, "-m", "venv", str(folder / "venv")]
    _timed("new virtual environment", lambda: subprocess.run(pip, check=True))
    install = [
        str(folder / "venv/bin/pip"), "install", "--quiet", "--disable-pip-version-check", "-c",
        str(ROOT / "constraints/cpu.txt"), str(wheel),
    ]  # fmt: skip
    _timed("install the wheel", lambda: subprocess.run(install, check=True, cwd=home))
    size = sum(path.stat().st_size for path in (folder / "venv").rglob("*") if path.is_file())
    say(f"  {size / 1e6:.0f} MB installed")
    _try(folder / "venv/bin/btchat", home, port)


def _try(btchat: Path, home: Path, port: int) -> None:
    """Every command in an empty folder, with nothing of the checkout in reach."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("BTCHAT_", "PYTHON"))}

    def run(*arguments: str) -> str:
        command = [str(btchat), *arguments]
        done = subprocess.run(command, cwd=home, env=clean, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{arguments}: {done.stderr}"
        return done.stdout

    say(f"  btchat --version: {run('--version').strip()}")
    assert "embedded" in run("models")
    assert "llava-v1" in run("weights", "list")
    answered = _timed("btchat demo --once", lambda: run("demo", "--once", "--port", str(port)))
    assert "disappears" in answered, answered
    command = [str(btchat), "serve", "--port", str(port)]
    server = subprocess.Popen(command, cwd=home, env=clean, stderr=subprocess.DEVNULL)
    try:
        say(f"  btchat serve and the official client: {_ask(port)}")
    finally:
        server.terminate()
        server.wait(30)


def _ask(port: int) -> str:
    client = OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none", max_retries=10)
    clip = (ROOT / "weights" / "embedded" / "sample.mp4").read_bytes()
    video = client.post("/video/uploads", cast_to=dict[str, str], content=clip)["id"]
    parts = [{"type": "text", "text": QUESTION}, {"type": "video_url", "video_url": {"url": video}}]
    answer = client.chat.completions.create(
        model="embedded",
        messages=[{"role": "user", "content": parts}],  # pyright: ignore[reportArgumentType] - videos are ours
    )
    text = answer.choices[0].message.content or ""
    assert "disappears" in text, text
    return text


def _timed(what: str, work: Callable[[], T]) -> T:
    begin = time.monotonic()
    result = work()
    say(f"{what}: {time.monotonic() - begin:.1f} s")
    return result


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _megabytes(path: Path) -> str:
    return f"{path.stat().st_size / 1e6:.1f} MB"


if __name__ == "__main__":
    sys.exit(main())
