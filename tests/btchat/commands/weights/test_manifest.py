"""weights/manifest.toml: what it says, and what is refused."""

import json
from pathlib import Path

import pytest

from bt_model.assembly.model_file import read_model_file
from bt_model.errors import InvalidValueError, UnknownNameError
from btchat.commands.weights.manifest import pick, read_manifest

MANIFEST = Path(__file__).parents[4] / "weights" / "manifest.toml"


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
    assert pick(sets, "llava-v1") is sets["llava-v1"]
    for chosen in sets.values():
        places = {item.to for item in chosen.items}
        parts = ("tower", "adapter", "llm", "projector", "qformer")
        named = {chosen.model[part] for part in parts if chosen.model.get(part)}
        assert named <= places
        assert {item.base for item in chosen.items} - {""} <= places


@pytest.mark.parametrize("name", [name for name, chosen in read_manifest(MANIFEST).items() if chosen.model])
def test_every_model_of_the_manifest_is_a_model_file(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.model.json"
    path.write_text(json.dumps({"id": name, **read_manifest(MANIFEST)[name].model}))
    assert read_model_file(path).id == name


def test_an_unknown_set_is_refused_with_those_there_are() -> None:
    with pytest.raises(UnknownNameError, match="weights are 'gpt'; allowed: bt-adapter, clip-l14"):
        pick(read_manifest(MANIFEST), "gpt")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x", "not TOML"),
        ("a = 1", "a is 1; allowed: a section"),
        ("[a]\nabout = 'b'", "a.items is missing"),
        ("[a]\nabout = 'b'\nitems = [{repo='r'}]", r"a\.items\.0\.file is missing"),
        (
            "[a]\nabout = 'b'\nitems = [{repo='r',file='f',to='t',size=3}]",
            r"0\.size is not known; .* repo",
        ),
        (
            "[a]\nabout = 'b'\nitems = [{repo='r',file='f',to='t',num_bytes='3'}]",
            r"num_bytes is '3'; .* whole",
        ),
        (
            "[a]\nabout = 'b'\nitems = [{repo='r',file='f',to='../t'}]",
            r"0\.to is '\.\./t'; allowed: a path",
        ),
        ("[a]\nabout = 'b'\nitems = [{repo='r',file='f',to='/t'}]", r"items\.0\.to is '/t'; allowed: a path"),
        ("[a]\nabout = 'b'\nitems = [{repo='r',file='f',to=''}]", r"items\.0\.to is ''; allowed: a path"),
        ("[a]\nabout = 'b'\nitems = [{repo='r',file='f',to='t',base='../b'}]", r"items\.0\.base is '\.\./b'"),
        ("[a]\nabout = 'b'\nitems = [{repo='r',file='f',to='t',blocks=true}]", r"items\.0\.blocks is True"),
        ("[a]\nabout = 'b'\nitems = [5]", r"a\.items\.0 is 5; allowed: a section"),
        ("[a]\nabout = 'b'\nitems = 5", r"a\.items is 5; allowed: a list"),
        ("[a]\nabout = 'b'\nitems = []\nmodel = 5", r"a\.model is 5; allowed: a table"),
        ("[a]\nabout = 5\nitems = []", r"a\.about is 5; allowed: a string"),
        ("['../b']\nabout = 'b'\nitems = []", r"name is '\.\./b'; allowed: "),
        ("['']\nabout = 'b'\nitems = []", "name is ''; allowed: "),
        (b"\xff", "not TOML"),
        (b"a = " + b"[" * 5000, "not TOML"),
    ],
)
def test_a_manifest_that_is_not_right_is_refused(tmp_path: Path, text: str | bytes, message: str) -> None:
    (tmp_path / "m.toml").write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(InvalidValueError, match=message):
        read_manifest(tmp_path / "m.toml")
