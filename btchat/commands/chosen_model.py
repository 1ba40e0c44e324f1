"""A model as it is named on a command line: NAME, or NAME@ADAPTER for another adapter of its file."""

from dataclasses import dataclass
from pathlib import Path

from bt_model.assembly.catalog import find
from bt_model.assembly.model_file import ModelFile, read_model_file
from bt_model.errors import UnknownNameError


@dataclass(frozen=True, slots=True)
class ChosenModel:
    """A model's file, and what it says with the adapter that was chosen."""

    path: Path
    file: ModelFile

    @property
    def id(self) -> str:
        """Under which a server has it."""
        return self.file.id


def choose(name: str, weights_dir: Path) -> ChosenModel:
    """A name or path of a model file as it stands, or before an `@` that one of its adapters follows.

    Raises:
        UnknownNameError: no such model, or no such adapter of it.
        CheckpointError: a model file that cannot be read.
    """
    model, adapter = name, ""
    try:
        path = find(name, weights_dir)
    except UnknownNameError:
        model, _, adapter = name.rpartition("@")
        if not model:
            raise
        path = find(model, weights_dir)
    file = read_model_file(path, weights_dir)
    return ChosenModel(path, file if model == name else file.with_adapter(adapter))
