"""`btchat weights`, against a hub of our own that speaks the real one's HTTP."""

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from bt_model.errors import BtchatError, CheckpointError, UnknownNameError
from server.cli import main
from server.weights.fetch import LOCK, fetch
from server.weights.manifest import Item, WeightSet, pick, read_manifest

REPO = "someone/tiny"
COMMIT = "1" * 40
MANIFEST = Path(__file__).parents[2] / "weights" / "manifest.toml"


class Hub(ThreadingHTTPServer):
    """Serves the files of one repository; `cut_after` breaks the next download off after so many bytes."""

    def __init__(self, files: dict[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files = files
        self.cut_after: int | None = None
        self.ranges: list[str] = []


class Handler(BaseHTTPRequestHandler):
    server: Hub  # pyright: ignore[reportIncompatibleVariableOverride]
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""

    def do_HEAD(self) -> None:
        self._file(with_body=False)

    def do_GET(self) -> None:
        if self.path.startswith("/api/models/"):
            tree = [
                {"type": "file", "oid": "0" * 40, "size": len(data), "path": name}
                for name, data in self.server.files.items()
            ]
            self._send(200, json.dumps(tree).encode(), {"content-type": "application/json"})
            return
        self._file(with_body=True)

    def _file(self, *, with_body: bool) -> None:
        name = self.path.rpartition("/main/")[2] or self.path
        data = self.server.files.get(name.rpartition(f"{COMMIT}/")[2])
        if data is None:
            self._send(404, b"", {"x-error-code": "EntryNotFound"})
            return
        etag = hashlib.sha256(data).hexdigest()
        headers = {"etag": f'"{etag}"', "x-repo-commit": COMMIT, "accept-ranges": "bytes"}
        start, status = 0, 200
        if asked := self.headers.get("range"):
            self.server.ranges.append(asked)
            start, status = int(asked.removeprefix("bytes=").split("-")[0]), 206
            headers["content-range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        self._send(status, data[start:], headers, with_body=with_body)

    def _send(self, status: int, body: bytes, headers: dict[str, str], *, with_body: bool = True) -> None:
        self.send_response(status)
        for name, value in {**headers, "content-length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if not with_body:
            return
        cut, self.server.cut_after = self.server.cut_after, None
        self.wfile.write(body if cut is None else body[:cut])
        if cut is not None:
            self.wfile.flush()
            self.close_connection = True


def quiet(_line: str) -> None:
    """Nobody listens."""


def safetensors(folder: Path, count: int = 50_000) -> bytes:
    save_file({"w": torch.arange(float(count))}, folder / "w.safetensors")
    return (folder / "w.safetensors").read_bytes()


def pickled(folder: Path) -> bytes:
    torch.save({"llama_proj.weight": torch.ones(3, 2), "llama_proj.bias": torch.ones(3)}, folder / "p.bin")
    return (folder / "p.bin").read_bytes()


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    source = tmp_path / "source"
    source.mkdir()
    files = {
        "model.safetensors": safetensors(source),
        "projection.bin": pickled(source),
        "config.json": b"{}",
    }
    server = Hub(files)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}"
    for module in ("constants", "file_download", "hf_api"):
        monkeypatch.setattr(f"huggingface_hub.{module}.ENDPOINT", url, raising=False)
    monkeypatch.setattr(
        "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE",
        url + "/{repo_id}/resolve/{revision}/{filename}",
    )
    monkeypatch.setattr(
        "huggingface_hub.file_download.HUGGINGFACE_CO_URL_TEMPLATE",
        url + "/{repo_id}/resolve/{revision}/{filename}",
        raising=False,
    )
    yield server
    server.shutdown()
    server.server_close()


def tiny_set(*items: Item, **model: object) -> WeightSet:
    return WeightSet("tiny", "for a test", items, dict(model))


FOLDER = Item(REPO, "*.safetensors, config.json", "tower")
PROJECTION = Item(REPO, "projection.bin", "projection.safetensors")


def test_a_set_is_fetched_converted_locked_and_gets_its_model_file(hub: Hub, tmp_path: Path) -> None:
    said: list[str] = []
    fetch(tiny_set(FOLDER, PROJECTION, backend="llava", tower="tower"), tmp_path, said.append)
    folder = tmp_path / "tiny"
    assert (folder / "tower" / "model.safetensors").read_bytes() == hub.files["model.safetensors"]
    assert set(load_file(folder / "projection.safetensors")) == {"llama_proj.weight", "llama_proj.bias"}
    assert json.loads((folder / "tiny.model.json").read_text()) == {
        "id": "tiny", "backend": "llava", "tower": "tower",
    }  # fmt: skip
    lock = json.loads((folder / LOCK).read_text())
    assert lock[f"{REPO}/projection.bin"] == {
        "sha256": hashlib.sha256(hub.files["projection.bin"]).hexdigest(),
        "bytes": len(hub.files["projection.bin"]),
    }
    assert not list(folder.rglob("*.bin"))


def test_what_is_there_is_not_fetched_again(hub: Hub, tmp_path: Path) -> None:
    fetch(tiny_set(PROJECTION), tmp_path, quiet)
    hub.files.clear()
    said: list[str] = []
    fetch(tiny_set(PROJECTION), tmp_path, said.append)
    assert said[-1].endswith("projection.safetensors is there")


def test_a_dry_run_asks_nobody(tmp_path: Path) -> None:
    said: list[str] = []
    fetch(tiny_set(FOLDER), tmp_path / "none", said.append, dry_run=True)
    assert said == [
        f"{REPO}/*.safetensors, config.json -> {tmp_path / 'none/tiny/tower'}  [{FOLDER.licence}]"
    ]
    assert not (tmp_path / "none").exists()


def test_a_download_that_was_cut_off_goes_on_where_it_stopped(hub: Hub, tmp_path: Path) -> None:
    hub.files["model.safetensors"] = safetensors(tmp_path, 3_200_000)  # more than one of the client's chunks
    hub.cut_after = 12_000_000
    item = Item(REPO, "model.safetensors", "w.safetensors")
    fetch(tiny_set(item), tmp_path, quiet)
    assert (tmp_path / "tiny" / "w.safetensors").read_bytes() == hub.files["model.safetensors"]
    assert hub.ranges
    assert all(int(asked.removeprefix("bytes=").split("-")[0]) > 0 for asked in hub.ranges)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"sha256": "0" * 64}, "SHA-256 is .*; the manifest says 0000"),
        ({"num_bytes": 7}, "bytes; the manifest says 7"),
    ],
)
def test_a_file_that_is_not_what_the_manifest_says_is_refused(
    hub: Hub, tmp_path: Path, more: dict[str, str | int], message: str
) -> None:
    item = Item(REPO, "projection.bin", "p.safetensors", **more)  # pyright: ignore[reportArgumentType]
    with pytest.raises(CheckpointError, match=message):
        fetch(tiny_set(item, backend="llava"), tmp_path, quiet)
    assert not (tmp_path / "tiny" / "p.safetensors").exists()
    assert not (tmp_path / "tiny" / "tiny.model.json").exists()


def test_a_file_that_no_hub_has_is_asked_for(tmp_path: Path) -> None:
    item = Item("", "eva_vit_g.pth", "eva", note="convert it")
    with pytest.raises(BtchatError, match=r"no hub has eva_vit_g\.pth; convert it"):
        fetch(tiny_set(item), tmp_path, quiet)


def test_a_disk_that_is_too_small_is_told_before_anything(hub: Hub, tmp_path: Path) -> None:
    huge = Item(REPO, "projection.bin", "p.safetensors", num_bytes=10**18)
    with pytest.raises(BtchatError, match=r"2000000000\.0 GB are needed"):
        fetch(tiny_set(huge), tmp_path, quiet)
    assert not hub.ranges


def test_the_manifest_in_the_repository_is_whole() -> None:
    sets = read_manifest(MANIFEST)
    assert {
        "bt-adapter",
        "llava-v1",
        "llava-1.5-hf",
        "minigpt4-7b",
        "instructblip-7b",
        "video-chatgpt-7b",
    } <= set(sets)
    for chosen in sets.values():
        places = {item.to for item in chosen.items}
        parts = ("tower", "adapter", "llm", "projector", "qformer")
        named = {chosen.model[part] for part in parts if chosen.model.get(part)}
        assert named <= places
        assert {item.base for item in chosen.items} - {""} <= places


def test_an_unknown_set_is_refused_with_those_there_are() -> None:
    with pytest.raises(UnknownNameError, match="weights are 'gpt'; allowed: bt-adapter, clip-l14"):
        pick(read_manifest(MANIFEST), "gpt")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x", "not a readable manifest"),
        ("[a]\nabout = 'b'", "needs about and items"),
        ("[a]\nabout = 'b'\nitems = [{repo='r'}]", "has no file, to"),
        ("[a]\nabout = 'b'\nitems = [{repo='r',file='f',to='t',size=3}]", "has size"),
        ("[a]\nabout = 'b'\nitems = [{repo='r',file='f',to='t',num_bytes='3'}]", "num_bytes = '3'"),
        ("[a]\nabout = 'b'\nitems = [{repo='r',file='f',to='../t'}]", "goes to '../t'"),
        ("[a]\nabout = 'b'\nitems = [{repo='r',file='f',to='/t'}]", "goes to '/t'"),
    ],
)
def test_a_manifest_that_is_not_right_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "m.toml").write_text(text)
    with pytest.raises(CheckpointError, match=message):
        read_manifest(tmp_path / "m.toml")


def test_the_command_converts_and_verifies(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pickled(tmp_path)
    out = tmp_path / "models" / "projection.safetensors"
    out.parent.mkdir()
    assert main(["weights", "convert", str(tmp_path / "p.bin"), "--out", str(out)]) == 0
    assert "2 tensors" in capsys.readouterr().out
    assert main(["weights", "verify", str(out.parent)]) == 0
    assert "2 tensors, all readable and finite" in capsys.readouterr().out
    save_file({"w": torch.tensor([torch.nan])}, out.parent / "bad.safetensors")
    assert main(["weights", "verify", str(out.parent)]) == 1
    assert "w holds a number that is not finite" in capsys.readouterr().err


def test_the_embedded_weights_verify(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["weights", "verify", "embedded"]) == 0
    assert "adapter is a retrieval checkpoint" in capsys.readouterr().out


def test_the_list_says_what_is_here(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["weights", "list"]) == 0
    assert "bt-adapter  (0 of 2 parts here, 2.2 GB known)" in capsys.readouterr().out
