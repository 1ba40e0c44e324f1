"""The result of one row with one seed: a file of every answer, so that any figure can be computed anew."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from lab.statistics import Answers

_COST = "cost"


@dataclass(frozen=True, slots=True)
class Cost:
    """What a row costs: numbers that learn, CPU seconds a step, MiB for its backward pass, chat tokens."""

    num_trainable: int
    step_seconds: float
    kept_mebibytes: float
    num_tokens: int


@dataclass(frozen=True, slots=True)
class Result:
    """Answers by measure and kind ("twins/move": (n, 2)), in the order of the test scenes, and the cost."""

    answers: Mapping[str, Answers]
    cost: Cost

    def save(self, path: Path) -> None:
        """Write the file; it appears complete or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.part")
        cost = np.frombuffer(json.dumps(asdict(self.cost)).encode(), np.uint8)
        with part.open("wb") as file:
            # numpy 2.1 would store allow_pickle as one of the arrays
            np.savez_compressed(file, **{_COST: cost}, **self.answers)  # pyright: ignore[reportArgumentType] - every name is an array's
        part.replace(path)

    @classmethod
    def load(cls, path: Path) -> "Result":
        """Read what `save` wrote."""
        with np.load(path, allow_pickle=False) as file:
            answers = {name: file[name] for name in file.files if name != _COST}
            return cls(answers, Cost(**json.loads(file[_COST].tobytes())))

    def of(self, measure: str, like: "Result | None" = None) -> Answers:
        """The answers of all kinds of a measure, or of one ("twins/move"), one below the other.

        Where `like` has answers about fewer scenes, the first of each kind, only those about the same.
        """
        names = [name for name in sorted(self.answers) if name.split("/")[0] == measure or name == measure]
        parts = [self.answers[name] for name in names]
        if like is not None:
            parts = [part[: len(like.answers[name])] for name, part in zip(names, parts, strict=True)]
        return np.concatenate(parts)

    def has(self, measure: str) -> bool:
        """Whether there are answers of this measure."""
        return any(name.split("/")[0] == measure for name in self.answers)
