"""`btchat weights list | fetch | convert | verify`."""

import sys
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from bt_model.assembly.catalog import BUILT_IN, WEIGHTS_DIR
from bt_model.types import Dtype
from btchat.commands.options import NewWeightsDir, WeightsDir

if TYPE_CHECKING:
    from btchat.commands.weights.manifest import WeightSet

_LINE_SECONDS = 30.0

Manifest = Annotated[Path | None, Parameter(help="list of sets (default: that of this version)")]


def list_sets(
    *, weights_dir: NewWeightsDir = WEIGHTS_DIR, manifest: Manifest = None, json: bool = False
) -> None:
    """Show the sets that can be fetched, and what of them is here.

    Args:
        json: for machines
    """
    from json import dumps

    from btchat.commands.weights.manifest import read_manifest

    sets = read_manifest(manifest or BUILT_IN / "manifest.toml")
    if json:
        print(dumps([_as_json(name, chosen, weights_dir / name) for name, chosen in sets.items()], indent=2))
        return
    for name, chosen in sets.items():
        here = sum((weights_dir / name / item.to).exists() for item in chosen.items)
        size = f"at least {chosen.num_bytes / 1e9:.1f} GB" if chosen.num_bytes else "size unknown"
        print(f"{name}  ({here} of {len(chosen.items)} parts here, {size})\n  {chosen.about}")
        for item in chosen.items:
            print(f"  {item.to:24s} {item.source}  [{item.licence}]")
            if item.note:
                print(f"  {'':24s} {item.note}")


def _as_json(name: str, chosen: "WeightSet", folder: Path) -> dict[str, object]:
    items = [
        {
            "to": item.to,
            "source": item.source,
            "licence": item.licence,
            "note": item.note or None,
            "is_here": (folder / item.to).exists(),
        }
        for item in chosen.items
    ]
    return {"name": name, "about": chosen.about, "bytes": chosen.num_bytes or None, "items": items}


def fetch(
    name: str,
    /,
    *,
    dry_run: bool = False,
    weights_dir: NewWeightsDir = WEIGHTS_DIR,
    manifest: Manifest = None,
) -> None:
    """Download a set (HF_ENDPOINT names a mirror), convert, write its model.

    Args:
        name: name of a set
        dry_run: only say what would be fetched
    """
    from btchat.commands.weights.fetch import fetch
    from btchat.commands.weights.manifest import pick, read_manifest

    fetch(
        pick(read_manifest(manifest or BUILT_IN / "manifest.toml"), name),
        weights_dir,
        print,
        dry_run=dry_run,
    )


def convert(
    source: Path,
    /,
    *,
    out: Path,
    base: Path | None = None,
    dtype: Dtype | None = None,
    blocks: int | None = None,
) -> None:
    """Turn .bin and .pth into safetensors; nothing in them is run.

    Args:
        source: a file, or a folder with shards
        out: a folder, or a file NAME.safetensors
        base: what a delta is added to
        dtype: number format (default: the file's)
        blocks: how many blocks of an EVA tower are used (39 of 40)
    """
    import torch

    from bt_model.checkpoints.conversion.convert import convert

    show = _Shown()
    done = convert(
        source, out, base=base, dtype=getattr(torch, dtype) if dtype else None, blocks=blocks, progress=show
    )
    show.clear()
    print(done)


class _Shown:
    """Names the tensors that are done: each on a terminal, elsewhere one in half a minute."""

    def __init__(self) -> None:
        self._count, self._said, self._is_terminal = 0, monotonic(), sys.stderr.isatty()

    def __call__(self, name: str, _num_bytes: int) -> None:
        self._count += 1
        if self._is_terminal:
            sys.stderr.write(f"\r\033[K{self._count} {name}")
        elif monotonic() - self._said >= _LINE_SECONDS:
            sys.stderr.write(f"{self._count} tensors, the last {name}\n")
            self._said = monotonic()

    def clear(self) -> None:
        """The terminal's line is free again."""
        if self._is_terminal:
            sys.stderr.write("\r\033[K")


def verify(name: str, /, *, weights_dir: WeightsDir = WEIGHTS_DIR) -> None:
    """Check that every tensor is readable and finite, and every name in its place.

    Args:
        name: a set, or a folder
    """
    from btchat.commands.weights.verify import folder_of, verify

    for line in verify(folder_of(name, weights_dir)):
        print(line)
