"""Uploads through both clients, over connections that break, and in a second process."""

import hashlib
import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from bt_model.errors import BtchatError
from btchat.client import BtchatAPIError, BtchatConnectionError, uploads
from tests.btchat.client.breaking_proxy import breaking_proxy
from tests.btchat.client.conftest import Connect, padded
from tests.server.conftest import RunningServer

MIB = 1024 * 1024


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("btchat.client.sending._FIRST_SECONDS", 0.02)


@pytest.mark.parametrize("kind", ["path", "text", "bytes", "file"])
def test_a_path_bytes_and_an_open_file_are_uploaded(
    client: Any, clip: Path, tmp_path: Path, kind: str
) -> None:
    path = tmp_path / "Fälle 1.mp4"
    sha256 = padded(clip, path, 10)
    sources = {
        "path": lambda: path,
        "text": lambda: str(path),
        "bytes": path.read_bytes,
        "file": lambda: path.open("rb"),
    }
    source = sources[kind]()
    told: list[tuple[int, int]] = []
    video = client.upload(source, on_progress=lambda sent, total: told.append((sent, total)))
    if isinstance(source, io.BufferedReader):
        source.close()
    assert (video.sha256, video.bytes) == (sha256, path.stat().st_size)
    assert video.filename == ("" if kind == "bytes" else "Fälle 1.mp4")
    assert (video.facts.num_frames, video.facts.codec) == (30, "h264")
    assert told[-1] == (video.bytes, video.bytes)
    assert client.get(video.id) == video


def test_what_the_server_has_is_not_sent_again(
    connect: Connect, server: RunningServer, clip: Path, tmp_path: Path
) -> None:
    path = tmp_path / "clip.mp4"
    padded(clip, path, 2 * MIB)
    with breaking_proxy(server.url, every=10**9, times=0) as proxy:
        client = connect(proxy.url)
        first = client.upload(path)
        sent = proxy.num_bytes
        assert client.upload(path.read_bytes(), filename="other.mp4").id == first.id
    assert sent > 2 * MIB
    assert proxy.num_bytes - sent < 2000


@pytest.mark.parametrize("resumable", [True, False])
def test_an_upload_that_is_cut_five_times_ends_byte_identical(
    connect: Connect, server: RunningServer, clip: Path, tmp_path: Path, resumable: bool
) -> None:
    path = tmp_path / "clip.mp4"
    sha256 = padded(clip, path, 24 * MIB)
    told: list[int] = []
    with breaking_proxy(server.url, every=(4 if resumable else 3) * MIB, times=5) as proxy:
        client = connect(proxy.url, max_retries=6)
        video = client.upload(path, resumable=resumable, on_progress=lambda sent, _total: told.append(sent))
    assert proxy.num_broken == 5
    assert (video.sha256, video.bytes) == (sha256, path.stat().st_size)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == client_sha(server, video.id)
    assert told[-1] == video.bytes
    assert list((tmp_path / "states").glob("*")) == []


def client_sha(server: RunningServer, video: str) -> str:
    with server.client() as http:
        return str(http.get(f"/v1/video/uploads/{video}").json()["sha256"])


def kept_bytes(server: RunningServer, states: Path) -> int:
    """What the server has of the only upload that was begun, once it noticed that its connection is gone."""
    (state,) = states.iterdir()
    path, came = f"/v1/video/uploads/resumable/{state.read_text()}", [-1]
    with server.client(headers={"tus-resumable": "1.0.0"}) as http:
        while len(came) < 4 or len(set(came[-4:])) > 1:
            time.sleep(0.2)
            came.append(int(http.head(path).headers["upload-offset"]))
    return came[-1]


def test_a_second_process_goes_on_where_the_first_was_killed(
    server: RunningServer, clip: Path, tmp_path: Path
) -> None:
    path = tmp_path / "clip.mp4"
    sha256 = padded(clip, path, 24 * MIB)
    code = (
        "import os, sys; from pathlib import Path; from btchat import Client\n"
        "def told(sent, total):\n"
        "    if sent > int(sys.argv[4]): os._exit(9)\n"
        "video = Client(sys.argv[1], state_dir=Path(sys.argv[2])).upload(sys.argv[3], on_progress=told)\n"
        "print(video.sha256)"
    )
    with breaking_proxy(server.url, every=10**9, times=0) as proxy:
        run = [sys.executable, "-c", code, proxy.url, str(tmp_path / "states"), str(path)]
        killed = subprocess.run([*run, str(16 * MIB)], check=False)
        kept, sent = kept_bytes(server, tmp_path / "states"), proxy.num_bytes
        done = subprocess.run([*run, str(100 * MIB)], capture_output=True, text=True, check=True)
    assert (killed.returncode, done.stdout.strip()) == (9, sha256)
    assert kept > MIB
    assert proxy.num_bytes - sent < path.stat().st_size - kept + MIB


def test_a_state_whose_upload_is_gone_begins_anew(client: Any, clip: Path, tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    sha256 = padded(clip, path, 9 * MIB)
    client_states = tmp_path / "states"
    first = client.upload(path)
    assert list(client_states.glob("*")) == []
    client.delete(first.id)
    states = client._routes.states if hasattr(client, "_routes") else None
    assert states is not None
    states.keep(sha256, "vid_" + "0" * 32)
    assert client.upload(path).sha256 == sha256


def test_a_file_that_changes_while_it_is_sent_is_told(client: Any, clip: Path, tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    padded(clip, path, 9 * MIB)

    def change(sent: int, _total: int) -> None:
        if sent < MIB:
            with path.open("r+b") as file:
                file.seek(-10, os.SEEK_END)
                file.write(b"0123456789")

    with pytest.raises(
        BtchatError, match=r"clip\.mp4 changed while it was sent; what came is vid_\w{32}; send"
    ):
        client.upload(path, on_progress=change)
    assert client.upload(path).sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_file_that_becomes_shorter_is_told(client: Any, clip: Path, tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    padded(clip, path, 9 * MIB)

    def cut(sent: int, _total: int) -> None:
        if sent < MIB:
            os.truncate(path, 5 * MIB)

    with pytest.raises(BtchatError, match=r"clip\.mp4 became shorter"):
        client.upload(path, on_progress=cut)


def test_what_is_no_video_is_refused_and_leaves_no_state(client: Any, tmp_path: Path) -> None:
    path = tmp_path / "text.mp4"
    path.write_bytes(b"hello " * 2 * MIB)
    with pytest.raises(BtchatAPIError) as caught:
        client.upload(path)
    assert (caught.value.status, caught.value.code) == (415, "unsupported_media")
    assert list((tmp_path / "states").glob("*")) == []


def test_an_upload_that_is_given_up_goes_on_when_it_is_asked_for_again(
    connect: Connect, server: RunningServer, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "clip.mp4"
    sha256 = padded(clip, path, 24 * MIB)
    monkeypatch.setattr(uploads, "MOST_FAILURES", 3)
    with breaking_proxy(server.url, every=10**9, times=0) as proxy:

        def unplug(sent: int, _total: int) -> None:
            if sent > 12 * MIB:
                proxy.is_refusing = True
                proxy.break_all()

        with pytest.raises(BtchatConnectionError, match=r"the connection to http://\S+ broke"):
            connect(proxy.url).upload(path, on_progress=unplug)
        proxy.is_refusing = False
        kept, sent = kept_bytes(server, tmp_path / "states"), proxy.num_bytes
        video = connect(proxy.url).upload(path)
    assert video.sha256 == sha256
    assert kept > MIB
    assert proxy.num_bytes - sent < video.bytes - kept + MIB


@pytest.mark.parametrize(
    ("source", "message"),
    [(b"", "is empty"), (5, "is a int; allowed: a path, bytes"), (sys.stdin, "allowed: a path, bytes")],
)
def test_what_cannot_be_sent_is_told(client: Any, source: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        client.upload(source)


def test_a_client_needs_little_memory(server: RunningServer, clip: Path, tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    padded(clip, path, 200 * MIB)
    code = (
        "import json, re, sys; from pathlib import Path; from btchat import Client\n"
        "client = Client(sys.argv[1], state_dir=Path(sys.argv[2])); client.version()\n"
        "status = Path('/proc/self/status')\n"
        "most = lambda: int(re.search(r'VmHWM:\\s+(\\d+)', status.read_text()).group(1)) * 1024\n"
        "before = most(); video = client.upload(sys.argv[3])\n"
        "print(json.dumps([video.bytes, most() - before]))"
    )
    run = [sys.executable, "-c", code, server.url, str(tmp_path / "states"), str(path)]
    done = subprocess.run(run, capture_output=True, text=True, check=True)
    num_bytes, grown = json.loads(done.stdout)
    assert num_bytes > 200 * MIB
    assert grown < 16 * MIB
