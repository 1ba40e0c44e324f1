"""Torch files are read without running anything in them, in bounded time and memory."""

import collections
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from bt_model.checkpoints.conversion.convert import convert
from bt_model.checkpoints.conversion.pickle_machine import parse_pickle
from bt_model.checkpoints.conversion.torch_file import TorchFile
from bt_model.errors import CheckpointError
from tests.bt_model.checkpoints.conversion.torch_files import torch_file


class Trap:
    """Makes a folder when it is unpickled by anything that runs what it reads."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.bool])
def test_tensors_come_out_as_they_went_in(tmp_path: Path, dtype: torch.dtype) -> None:
    whole = torch.randn(6, 5).mul(3).to(dtype)
    tensors = {
        "plain": whole, "turned": whole.t(), "part": whole[2:4, 1:3], "none": whole[:0], "one": whole[0, 0],
        "shared": whole,
    }  # fmt: skip
    read = TorchFile(torch_file(tmp_path / "a.bin", tensors))
    assert {name: read[name].tolist() for name in read} == {n: t.tolist() for n, t in tensors.items()}
    assert {read[name].dtype for name in read} == {dtype}


def test_parameters_and_modules_own_dicts_are_read(tmp_path: Path) -> None:
    linear = nn.Linear(3, 2)
    read = TorchFile(
        torch_file(tmp_path / "a.pth", {"p": nn.Parameter(torch.ones(2)), **linear.state_dict()})
    )
    assert torch.equal(read["weight"], linear.weight)
    assert read["p"].tolist() == [1, 1]
    ordered = TorchFile(torch_file(tmp_path / "b.pth", linear.state_dict()))
    assert list(ordered) == ["weight", "bias"]


def test_nothing_in_the_file_is_run(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    path = torch_file(tmp_path / "evil.pth", {"state_dict": {"w": torch.ones(2)}, "meta": Trap(mark)})
    read = TorchFile(path)
    assert read["w"].tolist() == [1, 1]
    assert not mark.exists()
    assert any("mkdir" in name for name in read.unknown)
    torch.load(path, weights_only=False)
    assert mark.exists()  # the trap is a real one


@pytest.mark.parametrize(
    "source",
    [
        'cbuiltins\neval\n(S\'open("MARK", "w")\'\ntR.',
        "c__builtin__\ngetattr\n(c__builtin__\n__import__\n(S'os'\ntRS'system'\ntR(S'touch MARK'\ntR.",
        "cos\nsystem\n(S'touch MARK'\ntR.",
    ],
)
def test_a_pickle_written_by_hand_does_nothing_either(tmp_path: Path, source: str) -> None:
    mark = tmp_path / "mark"
    path = tmp_path / "evil.bin"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", source.replace("MARK", str(mark)))
    with pytest.raises(CheckpointError, match=r"evil\.bin"):
        TorchFile(path)
    assert not mark.exists()


@pytest.mark.parametrize("data", [b"", b"no zip", b"PK\x03\x04 half"])
def test_what_is_no_torch_file_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match="not a whole torch file"):
        TorchFile(path)


PLAIN = {
    "a": [1, -2, 3.5, None, True, False, (), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), [], {}],
    "b": {"c": {1: "text", -7: "\u00e9\u4e2d", 1 << 40: ["x" * 300]}},
    "d": 1 << 60,
}
PLAIN["e"] = PLAIN["b"]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_values_are_what_the_languages_own_reader_makes_of_them(protocol: int) -> None:
    data = pickle.dumps(PLAIN, protocol)
    assert parse_pickle(data) == (pickle.loads(data), frozenset())


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_what_stands_among_unknown_is_found(protocol: int) -> None:
    odd = [
        {1, 2},
        frozenset({3}),
        Path("a"),
        collections.Counter("aab"),
        collections.deque([1]),
        b"bytes",
        2j,
    ]
    told, _ = parse_pickle(pickle.dumps({"odd": odd, "w": 1, (1, 2): 3}, protocol))
    assert isinstance(told, dict)
    assert list(told) == ["odd", "w"]  # a tuple is no name
    assert told["w"] == 1


def test_keys_are_names_and_ordinary_numbers() -> None:
    largest = (1 << 62) - 1
    known: dict[int, int] = {largest: 1, -largest: 2}
    assert parse_pickle(pickle.dumps({**known, largest + 1: 3, -largest - 1: 4}))[0] == known


def parse_pickled(path: Path, program: bytes, **records: bytes) -> Path:
    """A torch file with a description written by hand."""
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("a/data.pkl", program)
        for name, data in records.items():
            file.writestr(f"a/data/{name.removeprefix('r')}", data)
    return path


STORAGE = b"(S'storage'\nctorch\nFloatStorage\nS'0'\nS'cpu'\nI1\ntQ"


def tensor(shape: bytes = b"(I1\nt", stride: bytes = b"(I1\nt", *, storage: bytes = STORAGE) -> bytes:
    """The program for one tensor; shape and stride are programs too."""
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + b"I0\n" + shape + stride + b"I00\nNtR"


def named(program: bytes, more: bytes = b"") -> bytes:
    """The program for a dictionary with one tensor `w`."""
    return b"(dS'w'\n" + program + b"s" + more + b"."


def test_a_description_written_by_hand_is_read(tmp_path: Path) -> None:
    read = TorchFile(parse_pickled(tmp_path / "a.pth", named(tensor()), r0=b"\0\0\x80\x3f"))
    assert read["w"].tolist() == [1.0]


NESTED = b"(t" + b"p0\ng0\n\x86" * 60  # a tuple of two, sixty times over: hashing it would take for ever
MANY = b"(I1\n" + b"I1\n" * 40 + b"t"


@pytest.mark.parametrize(
    "program",
    [
        named(tensor(b"(S'a'\nt")),
        named(tensor(b"(F1.5\nt")),
        named(tensor(b"(Nt")),
        named(tensor(b"(I01\nt")),
        named(tensor(b"(I-1\nt")),
        named(tensor(b"(L9223372036854775808L\nt")),
        named(tensor(stride=b"(L9223372036854775808L\nt")),
        named(tensor(stride=b"(t")),
        named(tensor(stride=b"N")),
        named(tensor(MANY, MANY)),
        named(tensor(NESTED, NESTED)),
        named(tensor(storage=b"N")),
        named(tensor(storage=STORAGE.replace(b"FloatStorage", b"QInt8Storage"))),
        named(tensor(storage=STORAGE.replace(b"S'storage'", b"S'module'"))),
        named(tensor(storage=STORAGE.replace(b"S'0'\n", NESTED))),
        named(tensor(storage=b"NQ")),
        named(b"Vx\n\x93"),
        named(b"(S'a'\nNi"),
        named(b"P1\n"),
        named(b"\x97"),
        b"(dt.",
        b"t.",
        b"0.",
        b"s.",
        b"b.",
        b"\x86.",
        b"(d",
        b"]" + b"N0" * 250_001 + b".",
        b"I" + b"9" * 5000 + b"\n.",
    ],
)
def test_a_description_that_is_none_is_one_line(tmp_path: Path, program: bytes) -> None:
    path = parse_pickled(tmp_path / "a.pth", program, r0=b"1234")
    with pytest.raises(CheckpointError, match=r"a\.pth: its pickle cannot be read"):
        TorchFile(path)


@pytest.mark.parametrize(
    "more",
    [
        NESTED + b"I1\ns",  # as a key
        b"(" + NESTED + b"I1\nu",  # among several
        b"S'x'\n(" + NESTED + b"I1\nds",  # in a dictionary of its own
        b"S'x'\n\x8f(" + NESTED + b"\x90s",  # in a set
        b"S'x'\n(" + NESTED + b"\x91s",  # in a frozen one
        b"S'x'\nccollections\nOrderedDict\n(tR" + NESTED + b"I1\nss",
        b"S'x'\nccollections\nOrderedDict\n(((" + NESTED + b"I1\ntltRs",
        b"S'x'\nctorch._utils\n_rebuild_tensor_v2\n(dS'__code__'\nI1\nsbs",  # a state for our own function
        b"S'x'\nccollections\nOrderedDict\n(tR(dS'items'\nI1\nsbs",
        b"S'x'\n" + b"(" * 1000 + b"t" * 1000 + b"s",
        b"S'x'\ncos\nsystem\n(S'true'\ntRs",
        b"S'x'\n(S'true'\nios\nsystem\ns",
        b"S'x'\n(cos\nsystem\nS'true'\nos",
        b"S'x'\ncos\nsystem\n(S'true'\nt\x81s",
        b"S'x'\ncos\nsystem\n(S'true'\nt}\x92s",
    ],
)
def test_what_stands_beside_a_tensor_neither_runs_nor_stays_nor_hinders(tmp_path: Path, more: bytes) -> None:
    read = TorchFile(parse_pickled(tmp_path / "a.pth", named(tensor(), more), r0=b"\0\0\x80\x3f"))
    assert list(read) == ["w"]
    assert parse_pickle(named(tensor()))[0] == {"w": read.locations["w"]}  # the next file is read as ever


@pytest.mark.parametrize("name", ["a\nb", "\x1b[2J"])
def test_a_name_that_would_write_on_the_terminal_is_refused_spelt_out(tmp_path: Path, name: str) -> None:
    with pytest.raises(CheckpointError, match=r"a tensor is called '(a\\nb|\\x1b\[2J)'"):
        TorchFile(torch_file(tmp_path / "a.pth", {name: torch.ones(1)}))
    assert TorchFile(torch_file(tmp_path / "b.pth", {name: 1})).left_out == {repr(name): "no tensor"}


def test_compressed_data_is_refused(tmp_path: Path) -> None:
    plain = torch_file(tmp_path / "a.bin", {"w": torch.zeros(1000)})
    for name, packed in (("b.bin", "data/0"), ("c.bin", "data.pkl")):
        with zipfile.ZipFile(plain) as old, zipfile.ZipFile(tmp_path / name, "w") as new:
            for each in old.namelist():
                kind = zipfile.ZIP_DEFLATED if each.endswith(packed) else zipfile.ZIP_STORED
                new.writestr(each, old.read(each), kind)
    with pytest.raises(CheckpointError, match=r"w cannot be read .its data is compressed"):
        _ = TorchFile(tmp_path / "b.bin")["w"]
    with pytest.raises(CheckpointError, match=r"its pickle cannot be read .ValueError: it is compressed"):
        TorchFile(tmp_path / "c.bin")


def test_a_row_may_be_repeated_within_bounds(tmp_path: Path) -> None:
    path = torch_file(tmp_path / "a.bin", {"few": torch.zeros(1000).expand(100, -1)})
    assert TorchFile(path)["few"].shape == (100, 1000)


def test_one_tensor_is_no_larger_than_what_is_stored_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bt_model.checkpoints.conversion.torch_file._MAX_EXPANDED", 10_000)
    path = torch_file(tmp_path / "a.bin", {"w": torch.zeros(1000).expand(4, -1), "v": torch.zeros(1000)})
    file = TorchFile(path)
    assert file["v"].shape == (1000,)
    with pytest.raises(CheckpointError, match=r"w cannot be read .16000 bytes out of 4000"):
        _ = file["w"]


@pytest.mark.parametrize(("count", "rows"), [(1, 10**9), (40, 16_000)])
def test_a_small_file_cannot_become_a_huge_one(tmp_path: Path, count: int, rows: int) -> None:
    row = torch.zeros(1000)
    tensors = {f"w{number}": row.expand(rows, -1) for number in range(count)}
    path = torch_file(tmp_path / "a.bin", tensors)
    size = path.stat().st_size
    with pytest.raises(
        CheckpointError, match=f"its tensors would take {count * rows * 4000} bytes, out of {size}"
    ):
        convert(path, tmp_path / "out")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["a.bin"]


def test_tied_tensors_may_share_what_is_stored(tmp_path: Path) -> None:
    whole = torch.zeros(20_000_000)
    read = TorchFile(torch_file(tmp_path / "a.bin", {"embed": whole, "head": whole}))
    assert read["head"].shape == whole.shape
