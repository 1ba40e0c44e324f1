"""Which model files there are. None is opened, so this is fast."""

from pathlib import Path

from bt_model.errors import UnknownNameError, require
from bt_model.settings.toml_file import read_toml

_CHECKOUT = Path(__file__).parents[2] / "weights"
_INSTALLED = Path(__file__).parents[1] / "weights"
BUILT_IN = (
    _INSTALLED if _INSTALLED.is_dir() else _CHECKOUT
)  # the embedded models, and the list of published sets
# where names are looked up first, unless somebody says else: beside an installation nobody keeps weights
WEIGHTS_DIR = Path("weights") if _INSTALLED.is_dir() else _CHECKOUT
SUFFIX = ".model.json"


def find(name: str, weights_dir: Path) -> Path:
    """A model file by path, by a folder that holds exactly one, or by name: one that is `available`.

    Raises:
        UnknownNameError: nothing of that name; the message lists what there is.
    """
    path = Path(name)
    if path.suffix == ".json" and path.is_file():
        return path
    inside = list(path.glob(f"*{SUFFIX}")) if path.is_dir() else []
    if len(inside) == 1:
        return inside[0]
    files = available(weights_dir)
    if name not in files:
        raise UnknownNameError(
            f"model is {name!r}; built in and under {weights_dir} there are: {', '.join(sorted(files))}"
            f"{way_to_fetch(name)}",
            code="model_not_found",
            param="model",
        )
    return files[name]


def require_weights_dir(path: Path) -> None:
    """Only the default one need not be there: an installation may do with what is built in.

    Raises:
        InvalidValueError: no folder.
    """
    is_left_out = path == WEIGHTS_DIR and not path.exists()
    require(path.is_dir() or is_left_out, "weights_dir", str(path), "a folder that exists")


def way_to_fetch(missing: str) -> str:
    """What to add to an error about a name or path that is missing: the published set that brings it.

    Empty where there is none.
    """
    words = {missing, *Path(missing).parts}
    found = [name for name in read_toml(BUILT_IN / "manifest.toml") if name in words]
    return f"; `btchat weights fetch {found[0]}` brings it" if found else ""


def available(weights_dir: Path) -> dict[str, Path]:
    """Names of the model files one folder below `weights_dir`, and of those that are always there."""
    return {
        path.name.removesuffix(SUFFIX): path
        for folder in (BUILT_IN, weights_dir)
        for path in folder.glob(f"*/*{SUFFIX}")
    }
