"""What the commands that run from settings have in common: how settings are typed, and under torchrun."""

import argparse
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from bt_model.training.trainer.parallel import Place

S = TypeVar("S")
_TORCHRUN = (("RANK", "0"), ("WORLD_SIZE", "1"), ("LOCAL_RANK", "0"))


def a_folder(text: str) -> Path:
    """What `--work` takes: a folder that is there, or that will be."""
    path = Path(text)
    if path.exists() and not path.is_dir():
        raise argparse.ArgumentTypeError(f"{text} is a file; allowed: a folder")
    return path


def add_settings(parser: argparse.ArgumentParser, presets: str) -> None:
    """The flags that `typed_settings` reads; `presets` are named in the help."""
    parser.add_argument("--config", type=Path, help="a TOML file; it stands above the preset")
    parser.add_argument("--preset", help=presets)
    parser.add_argument(
        "--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="one setting; above the file"
    )


def typed_settings(
    arguments: argparse.Namespace,
    kind: type[S],
    preset: Callable[[str], Mapping[str, Any]],
    *,
    below: Mapping[str, Any] | None = None,
) -> S:
    """The preset, above it the file, above both the command line; `below` all of them what is usual here.

    Raises:
        BtchatError: an unknown preset, name or value.
        OSError: the file cannot be read.
    """
    from bt_model.training.settings import fill, overlaid, read_assignment, read_toml

    layers = [below or {}]
    layers += [preset(arguments.preset)] if arguments.preset else []
    layers += [read_toml(arguments.config)] if arguments.config else []
    return fill(kind, overlaid([*layers, *map(read_assignment, arguments.set)]))


def torchrun_place() -> "Place":
    """Where torchrun put this process; alone without it."""
    from bt_model.training.trainer.parallel import Place

    rank, size, local = (int(os.environ.get(n, d)) for n, d in _TORCHRUN)
    return Place(rank, size, local)
