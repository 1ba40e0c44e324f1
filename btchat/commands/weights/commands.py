"""`btchat weights list | fetch | convert | verify`."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from bt_model.types import DTYPES

AddParser = Callable[..., argparse.ArgumentParser]


def add_weights(add: AddParser, weights_dir: Path) -> None:
    """The command group."""
    group = add("weights", help="published weights: list, fetch, convert, verify").add_subparsers(
        required=True, metavar="command"
    )
    listing = group.add_parser("list", help="the sets of weights/manifest.toml, and what of them is here")
    listing.set_defaults(run=_list)
    fetch = group.add_parser(
        "fetch", help="download a set (HF_ENDPOINT names a mirror), convert, write its model"
    )
    fetch.add_argument("name")
    fetch.add_argument("--dry-run", action="store_true", help="only say what would be fetched")
    fetch.set_defaults(run=_fetch)
    convert = group.add_parser("convert", help=".bin and .pth to safetensors, nothing in them is run")
    convert.add_argument("source", type=Path, help="a file, or a folder with shards")
    convert.add_argument("--out", type=Path, required=True, help="a folder, or a file NAME.safetensors")
    convert.add_argument("--base", type=Path, help="what a delta is added to")
    convert.add_argument("--dtype", choices=DTYPES)
    convert.add_argument("--blocks", type=int, help="how many blocks of an EVA tower are used (39 of 40)")
    convert.set_defaults(run=_convert)
    verify = group.add_parser("verify", help="every tensor readable and finite, every name in its place")
    verify.add_argument("name", help="a set, or a folder")
    verify.set_defaults(run=_verify)
    for parser in (listing, fetch, verify):
        parser.add_argument("--weights-dir", type=Path, default=weights_dir)
    for parser in (listing, fetch):
        parser.add_argument("--manifest", type=Path, default=weights_dir / "manifest.toml")


def _list(arguments: argparse.Namespace) -> int:
    from btchat.commands.weights.manifest import read_manifest

    for name, chosen in read_manifest(arguments.manifest).items():
        here = sum((arguments.weights_dir / name / item.to).exists() for item in chosen.items)
        size = f"{chosen.num_bytes / 1e9:.1f} GB known" if chosen.num_bytes else "size unknown"
        print(f"{name}  ({here} of {len(chosen.items)} parts here, {size})\n  {chosen.about}")
        for item in chosen.items:
            print(f"  {item.to:24s} {item.repo}/{item.file}  [{item.licence}]")
            if item.note:
                print(f"  {'':24s} {item.note}")
    return 0


def _fetch(arguments: argparse.Namespace) -> int:
    from btchat.commands.weights.fetch import fetch
    from btchat.commands.weights.manifest import pick, read_manifest

    chosen = pick(read_manifest(arguments.manifest), arguments.name)
    fetch(chosen, arguments.weights_dir, print, dry_run=arguments.dry_run)
    return 0


def _convert(arguments: argparse.Namespace) -> int:
    import torch

    from bt_model.checkpoints.conversion.convert import convert

    dtype = None if arguments.dtype is None else getattr(torch, arguments.dtype)
    count = 0

    def tick(name: str, _num_bytes: int) -> None:
        nonlocal count
        count += 1
        if sys.stderr.isatty():
            sys.stderr.write(f"\r\033[K{count} {name}")

    done = convert(
        arguments.source, arguments.out, base=arguments.base, dtype=dtype, blocks=arguments.blocks, tick=tick
    )
    if sys.stderr.isatty():
        sys.stderr.write("\r\033[K")
    print(done)
    return 0


def _verify(arguments: argparse.Namespace) -> int:
    from btchat.commands.weights.verify import folder_of, verify

    for line in verify(folder_of(arguments.name, arguments.weights_dir)):
        print(line)
    return 0
