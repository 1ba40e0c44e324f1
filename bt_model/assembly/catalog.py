"""Which model files there are. Nothing is read, so this is fast."""

from pathlib import Path

from bt_model.errors import UnknownNameError

WEIGHTS_DIR = Path(__file__).parents[2] / "weights"  # where names are looked up, unless somebody says else
SUFFIX = ".model.json"


def find(name: str, weights_dir: Path) -> Path:
    """A model file by path, by a folder that holds exactly one, or by name one folder below `weights_dir`.

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
            f"model is {name!r}; under {weights_dir} there are: {', '.join(sorted(files)) or '(none)'}",
            code="model_not_found",
            param="model",
        )
    return files[name]


def available(weights_dir: Path) -> dict[str, Path]:
    """Names of the model files one folder below `weights_dir`."""
    return {path.name.removesuffix(SUFFIX): path for path in weights_dir.glob(f"*/*{SUFFIX}")}
