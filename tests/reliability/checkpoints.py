"""Hostile checkpoints: what is in them is not run, and a server does not start with one."""

import io
import json
import pickle
import shutil
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from bt_model.assembly.load import load
from bt_model.checkpoints.conversion.convert import convert
from bt_model.checkpoints.weights import INDEX, open_weights
from bt_model.errors import BtchatError
from tests import tiny
from tests.reliability.goal import Figure, Goal
from tests.server.test_main import started

_CANARY = b"CANARY"  # a path of that many bytes stands in its place
_RUN = b"(S'touch CANARY'\nt"
_SYSTEM = b"cos\nsystem\n"
_STORAGE = b"(S'storage'\nctorch\nFloatStorage\nS'0'\nS'cpu'\nI1\ntQ"
_W = b"ctorch._utils\n_rebuild_tensor_v2\n(" + _STORAGE + b"I0\n(I%d\nt(I1\nt"
_TENSOR = _W % 1 + b"I00\nNtR"
_SECONDS = 5.0

PROGRAMS: dict[str, bytes] = {
    "system": _SYSTEM + _RUN + b"R.",
    "eval": b'cbuiltins\neval\n(S\'open("CANARY", "w")\'\ntR.',
    "found by getattr": b"cbuiltins\ngetattr\n(cbuiltins\n__import__\n(S'os'\ntRS'system'\ntR" + _RUN + b"R.",
    "beside a tensor": b"(dS'w'\n" + _TENSOR + b"sS'x'\n" + _SYSTEM + _RUN + b"Rs.",
    "as an instance": b"(dS'x'\n(S'touch CANARY'\nios\nsystem\ns.",
    "as an object": b"(dS'x'\n(cos\nsystem\nS'touch CANARY'\nos.",
    "by NEWOBJ": b"(dS'x'\n" + _SYSTEM + _RUN + b"\x81s.",
    "by NEWOBJ_EX": b"(dS'x'\n" + _SYSTEM + _RUN + b"}\x92s.",
    "by a state": b"(dS'x'\n" + _TENSOR + b"(dS'__setstate__'\n" + _SYSTEM + b"sbs.",
    "as what finds storages": b"(dS'w'\n" + _SYSTEM + _RUN + b"RQs.",
    "items of what is no dictionary": b"(dS'w'\n" + _TENSOR + b"(I0\n" + _SYSTEM + _RUN + b"Rus.",
    "more than is stored": b"(dS'w'\n" + _W % (1 << 40) + b"I00\nNtRs.",
    "nested without end": b")" + b"\x85" * 15_000_000 + b".",
}
"""Pickles by what they try; a few are what readers of weights alone let through."""


def _torch_file(path: Path, program: bytes) -> None:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("a/data.pkl", program)
        file.writestr("a/data/0", bytes(4))


def _tar(path: Path, program: bytes) -> None:
    """As torch wrote before there were zips; its reader of weights alone ran what is in `storages`."""
    with tarfile.open(path, "w") as file:
        for name in ("storages", "tensors", "pickle"):
            info = tarfile.TarInfo(name)
            info.size = len(program)
            file.addfile(info, io.BytesIO(program))


def _bare(path: Path, program: bytes) -> None:
    path.write_bytes(b"\x80\x02" + program)


_WRITERS: dict[str, tuple[Callable[[Path, bytes], None], bytes]] = {
    **{name: (_torch_file, program) for name, program in PROGRAMS.items()},
    "in a tar": (_tar, PROGRAMS["system"]),
    "bare": (_bare, PROGRAMS["system"]),
}

_CLIP, _LLM, _BRANCH = (
    "clip/model.safetensors",
    "llava_video/model.safetensors",
    "bt_adapter_tuned.safetensors",
)
_KEY = "backbone.balance1"
_UP = "model.layers.0.mlp.up_proj.weight"


def _tensor(
    file: str, key: str, change: Callable[[torch.Tensor], torch.Tensor | None]
) -> Callable[[Path], str]:
    """Change one tensor of a file, or leave it out; returns what a refusal must name."""

    def plant(model: Path) -> str:
        path = model / file
        header, tensors = dict(open_weights(path).metadata), load_file(path)
        changed = change(tensors.pop(key))
        save_file(tensors if changed is None else tensors | {key: changed}, path, metadata=header)
        return key.removeprefix("backbone.").removeprefix("model.")

    return plant


def _one_nan(tensor: torch.Tensor) -> torch.Tensor:
    tensor.view(-1)[-1] = torch.nan
    return tensor


def _bytes(file: str, change: Callable[[bytes], bytes]) -> Callable[[Path], str]:
    def plant(model: Path) -> str:
        (model / file).write_bytes(change((model / file).read_bytes()))
        return file

    return plant


def _says(**fields: object) -> Callable[[Path], str]:
    def plant(model: Path) -> str:
        path = model / f"{tiny.MODEL}.model.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | fields))
        return next(iter(fields))

    return plant


def _link(model: Path) -> str:
    shutil.move(model / "llava_video", model.parents[1] / "elsewhere")
    (model / "llava_video").symlink_to(model.parents[1] / "elsewhere")
    return "llm"


def _index(model: Path) -> str:
    shutil.move(model / _LLM, model.parents[1] / "out.safetensors")
    weight_map = dict.fromkeys(load_file(model.parents[1] / "out.safetensors"), "../../../out.safetensors")
    (model / "llava_video" / INDEX).write_text(json.dumps({"weight_map": weight_map}))
    return INDEX


def _pickled(name: str) -> Callable[[Path], str]:
    def plant(model: Path) -> str:
        _torch_file(model / name, PROGRAMS["system"].replace(_CANARY, str(model / "canary").encode()))
        return _says(adapter=name)(model) and name

    return plant


PLANTS: dict[str, Callable[[Path], str]] = {
    "a pickle": _pickled("branch.bin"),
    "a pickle by another name": _pickled("branch.safetensors"),
    "shape": _tensor(_LLM, _UP, lambda tensor: tensor[:-1].contiguous()),
    "whole numbers": _tensor(_BRANCH, _KEY, torch.Tensor.int),
    "numbers of a byte": _tensor(_LLM, _UP, lambda tensor: tensor.to(torch.float8_e4m3fn)),
    "one NaN": _tensor(_CLIP, "vision_model.encoder.layers.1.mlp.fc1.weight", _one_nan),
    "all infinite": _tensor(_BRANCH, _KEY, lambda tensor: torch.full_like(tensor, torch.inf)),
    "a tensor less": _tensor(_LLM, _UP, lambda _tensor: None),
    "a tensor under another name": _bytes(_LLM, lambda data: data.replace(b"up_proj", b"pu_proj")),
    "cut off": _bytes(_CLIP, lambda data: data[:-1]),
    "a header without end": _bytes(_CLIP, lambda data: b"\xff" * 8 + data[8:]),
    "places that overlap": _bytes(
        _CLIP, lambda data: data.replace(b'"data_offsets":[', b'"data_offsets":[0,0,', 1)
    ),
    "an index that leaves": _index,
    "a path that leaves": _says(llm="../../../../etc"),
    "an absolute path": _says(projector="/etc"),
    "a link that leaves": _link,
    "a field of code": _says(auto_map={"AutoModel": "evil.Model"}),
}
"""Model folders by what is wrong with them; each returns what the refusal must name."""


def checkpoints(is_full: bool) -> Figure:
    """No pickle is run by the converter, and no start succeeds with a folder that is not what it says."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tiny.write_model_folder(folder / "good")
        if not _is_armed(folder):
            return Figure("the payload does nothing even where it is run", is_met=False)
        pickles, models = list(_WRITERS), list(PLANTS)
        if not is_full:
            pickles, models = pickles[3::6], models[3::5]
        seconds = [_converted(folder, each) for each in pickles]
        with ThreadPoolExecutor(2) as pool:
            unnamed = [
                each for each in pool.map(lambda each: _refused(folder, each, is_full), models) if each
            ]
        num_run = len(list(folder.rglob("canary")))
    text = (
        f"{len(pickles)} pickles, {max(seconds):.1f} CPU seconds for the slowest; {len(models)} folders, "
        f"{len(unnamed)} not refused by name{''.join(f' ({each})' for each in unnamed)}; "
        f"{num_run} payloads run"
    )
    return Figure(text, is_met=not num_run and not unnamed and max(seconds) <= _SECONDS)


def _is_armed(folder: Path) -> bool:
    canary = folder / "armed"
    pickle.loads(PROGRAMS["system"].replace(_CANARY, str(canary).encode()))
    return canary.exists()


def _converted(folder: Path, name: str) -> float:
    """The CPU seconds that the converter takes for a file."""
    write, program = _WRITERS[name]
    place = folder / "pickles" / name.replace(" ", "_")
    place.mkdir(parents=True)
    source = place / "evil.bin"
    write(source, program.replace(_CANARY, str(place / "canary").encode()))
    begin = time.thread_time()
    said = _said_by(lambda: convert(source, place / "out"))
    seconds = time.thread_time() - begin
    assert said is None or source.name in said, said
    return seconds


def _refused(folder: Path, name: str, is_full: bool) -> str:
    """Empty where a folder is refused by the name of what is wrong with it, else what was said instead."""
    weights = folder / name.replace(" ", "_") / "weights"
    shutil.copytree(folder / "good", weights)
    wanted = PLANTS[name](weights / "tiny")
    said = _said_at_start(weights) if is_full else _said_by(lambda: load(tiny.MODEL, weights, device="cpu"))
    return "" if wanted in (said or "") else f"{name}: {said!r}"


def _said_at_start(weights: Path) -> str:
    places = ["--weights-dir", str(weights), "--data-dir", str(weights.parent / "data"), "--port", "0"]
    result = started(*places, "--model", tiny.MODEL, "--device", "cpu", "--decode-workers", "1")
    return result.stderr.splitlines()[-1] if result.returncode == 1 else f"exit {result.returncode}"


def _said_by(work: Callable[[], object]) -> str | None:
    """The refusal of some work; None where it is done."""
    try:
        work()
    except BtchatError as error:
        return error.message
    return None


GOALS = (
    Goal(
        "G31",
        "30 hostile checkpoints: 0 code run, start refused with the tensor or file named; none costs 5 s",
        checkpoints,
    ),
)
