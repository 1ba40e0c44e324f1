"""`btchat weights fetch`, against a hub of our own that speaks the real one's HTTP."""

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import load_file

from bt_model.errors import BtchatError, CheckpointError
from btchat.commands.weights.fetch import fetch
from btchat.commands.weights.lock import LOCK
from btchat.commands.weights.manifest import Item, WeightSet
from btchat.commands.weights.verify import verify
from tests.btchat.commands.weights.hub import REPO, Hub, safetensors


def quiet(_line: str) -> None:
    """Nobody listens."""


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
    data = hub.files["projection.bin"]
    assert lock["fetched"][f"{REPO}/projection.bin"] == {
        "sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data),
    }  # fmt: skip
    assert set(lock["placed"]) == {"tower/model.safetensors", "tower/config.json", "projection.safetensors"}
    assert not list(folder.rglob("*.bin"))


def test_what_is_there_is_not_fetched_again(hub: Hub, tmp_path: Path) -> None:
    fetch(tiny_set(PROJECTION), tmp_path, quiet)
    hub.files.clear()
    said: list[str] = []
    fetch(tiny_set(PROJECTION), tmp_path, said.append)
    assert said[-1].endswith("projection.safetensors is there")


def test_files_keep_their_folders(hub: Hub, tmp_path: Path) -> None:
    hub.files |= {"tokenizer.json": b"Vicuna's", "qformer_tokenizer/tokenizer.json": b"BERT's"}
    item = Item(REPO, "config.json, model.safetensors, tokenizer*, qformer_tokenizer/*", "all")
    fetch(tiny_set(item), tmp_path, quiet)
    folder = tmp_path / "tiny" / "all"
    assert (folder / "tokenizer.json").read_bytes() == b"Vicuna's"
    assert (folder / "qformer_tokenizer" / "tokenizer.json").read_bytes() == b"BERT's"


def test_files_beside_pickles_keep_their_folders(hub: Hub, tmp_path: Path) -> None:
    del hub.files["model.safetensors"]
    hub.files |= {"tokenizer.json": b"Vicuna's", "qformer_tokenizer/tokenizer.json": b"BERT's"}
    fetch(tiny_set(Item(REPO, "*.bin, *.json, qformer_tokenizer/*", "all")), tmp_path, quiet)
    folder = tmp_path / "tiny" / "all"
    assert (folder / "model.safetensors").is_file()
    assert (folder / "tokenizer.json").read_bytes() == b"Vicuna's"
    assert (folder / "qformer_tokenizer" / "tokenizer.json").read_bytes() == b"BERT's"


def test_a_star_stands_for_nothing_in_other_folders(hub: Hub, tmp_path: Path) -> None:
    hub.files |= {"old.json/a": b"old", "part/a.txt": b"a", "../a.txt": b"above"}
    fetch(tiny_set(Item(REPO, "*.json, */a.txt", "all")), tmp_path, quiet)
    placed = sorted(path.name for path in (tmp_path / "tiny" / "all").rglob("*"))
    assert placed == ["a.txt", "config.json", "part"]


@pytest.mark.parametrize(
    ("file", "lacking"),
    [
        ("config.json, model.safetensors", "model.safetensors"),
        ("*.gguf", r"\*.gguf"),
        ("*.gguf, model.safetensors, config.json", r"\*.gguf, model.safetensors"),
    ],
)
def test_a_hub_that_lacks_a_file_is_told_and_nothing_is_placed(
    hub: Hub, tmp_path: Path, file: str, lacking: str
) -> None:
    del hub.files["model.safetensors"]
    with pytest.raises(BtchatError, match=f"{REPO}: the hub has no {lacking}, which tower needs"):
        fetch(tiny_set(Item(REPO, file, "tower"), backend="llava"), tmp_path, quiet)
    assert not list((tmp_path / "tiny").rglob("*"))


def test_what_is_optional_is_brought_where_there_is_some(hub: Hub, tmp_path: Path) -> None:
    fetch(tiny_set(Item(REPO, "model.safetensors", "all", optional="config.json, *.model")), tmp_path, quiet)
    assert {path.name for path in (tmp_path / "tiny" / "all").iterdir()} == {
        "model.safetensors",
        "config.json",
    }


def test_weights_that_are_damaged_on_the_hub_are_not_placed(hub: Hub, tmp_path: Path) -> None:
    hub.files["model.safetensors"] = hub.files["model.safetensors"][:1000]
    with pytest.raises(CheckpointError, match="not a readable safetensors file"):
        fetch(tiny_set(FOLDER), tmp_path, quiet)
    assert not (tmp_path / "tiny" / "tower").exists()


def other_bytes(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(bytes([data[0] ^ 1]) + data[1:])


def more_bytes(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b" ")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (other_bytes, "SHA-256 is .*; manifest.lock.json says"),
        (more_bytes, "bytes; manifest.lock.json says"),
        (Path.unlink, "is in manifest.lock.json, and missing"),
    ],
)
@pytest.mark.parametrize("name", ["tower/config.json", "tower/model.safetensors", "projection.safetensors"])
def test_what_has_changed_since_it_was_fetched_is_told(
    hub: Hub, tmp_path: Path, spoil: Callable[[Path], None], message: str, name: str
) -> None:
    other = Item(REPO, "model.safetensors", "other.safetensors")
    chosen = tiny_set(FOLDER, PROJECTION, other)
    fetch(chosen, tmp_path, quiet)
    spoil(tmp_path / "tiny" / name)
    if name == "projection.safetensors" and spoil is Path.unlink:
        fetch(chosen, tmp_path, quiet)  # a whole item that is missing is fetched again
        assert (tmp_path / "tiny" / name).is_file()
        return
    with pytest.raises(CheckpointError, match=f"{name}: .*{message}.*remove it and fetch again"):
        fetch(chosen, tmp_path, quiet)
    with pytest.raises(CheckpointError, match=f"{name}: .*{message}"):
        list(verify(tmp_path / "tiny"))


def test_what_is_as_it_was_fetched_verifies(hub: Hub, tmp_path: Path) -> None:
    fetch(tiny_set(FOLDER, PROJECTION), tmp_path, quiet)
    assert next(iter(verify(tmp_path / "tiny"))).endswith("3 files, all as they were fetched")


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"fetched": {}, "placed": {"a": 1}}'])
def test_a_lock_that_is_none_is_refused(hub: Hub, tmp_path: Path, text: str) -> None:
    fetch(tiny_set(FOLDER), tmp_path, quiet)
    (tmp_path / "tiny" / LOCK).write_text(text)
    with pytest.raises(CheckpointError, match=LOCK):
        fetch(tiny_set(FOLDER), tmp_path, quiet)


def test_what_was_not_fetched_is_said_to_be_unknown(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "tiny" / "tower").mkdir(parents=True)
    said: list[str] = []
    fetch(tiny_set(FOLDER), tmp_path, said.append)
    assert said[-1].endswith("tower is there, and not known to have been fetched")


def test_a_dry_run_asks_nobody(tmp_path: Path) -> None:
    said: list[str] = []
    fetch(tiny_set(FOLDER), tmp_path / "none", said.append, dry_run=True)
    first, room = said
    assert first == f"{REPO}/*.safetensors, config.json -> {tmp_path / 'none/tiny/tower'}  [{FOLDER.licence}]"
    assert re.fullmatch(rf"{tmp_path}: [\d.]+ GB are free; the manifest does not know .*", room)
    known = tiny_set(replace(FOLDER, num_bytes=2_000_000_000), Item("", "own.pth", "own"))
    fetch(known, tmp_path / "none", said.append, dry_run=True)
    assert said[-2].startswith("your own own.pth -> ")
    assert said[-1].startswith(f"{tmp_path}: at least 2.0 GB to download, ")
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
