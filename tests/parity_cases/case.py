"""A golden case, and how what we computed is compared with it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from safetensors.torch import load_file


class NotRunError(Exception):
    """A case that cannot be run here; the message is the reason."""


@dataclass(frozen=True, slots=True)
class Check:
    """The error of one tensor beside what is allowed."""

    name: str
    error: float
    tolerance: float

    @property
    def is_ok(self) -> bool:
        return self.error <= self.tolerance  # false for nan


@dataclass(frozen=True, slots=True)
class Case:
    """One record of cases.json with its tensors, by what they are: input, state, expect."""

    id: str
    kind: str
    config: dict[str, Any]
    facts: dict[str, Any]
    inputs: dict[str, torch.Tensor]
    state: dict[str, torch.Tensor]
    expects: dict[str, torch.Tensor]
    tolerance: float

    @classmethod
    def read(cls, folder: Path, record: Mapping[str, Any], tolerance: float) -> Self:
        tensors = load_file(folder / record["file"])
        return cls(
            id=record["id"],
            kind=record["kind"],
            config=record["config"],
            facts=record.get("facts") or {},
            inputs=below("input.", tensors),
            state=below("state.", tensors),
            expects=below("expect.", tensors),
            tolerance=tolerance,
        )

    def compare(self, got: Mapping[str, torch.Tensor]) -> list[Check]:
        """Every expected tensor; one that was not computed has an infinite error."""
        return [
            Check(name, relative_error(got[name], want) if name in got else float("inf"), self.tolerance)
            for name, want in self.expects.items()
        ]


def below(prefix: str, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors whose names start with the prefix, without it."""
    return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}


def relative_error(got: torch.Tensor, want: torch.Tensor) -> float:
    """max |got - want| / max(1, max |want|); infinite for another shape."""
    if got.shape != want.shape:
        return float("inf")
    return float((got - want).abs().max() / want.abs().max().clamp(min=1))


def largest_difference(got: torch.Tensor, want: torch.Tensor) -> float:
    """max |got - want| in units of the values (grey levels, indices, ids); infinite for another shape."""
    if got.shape != want.shape:
        return float("inf")
    return float((got.to(torch.int64) - want.to(torch.int64)).abs().max())
