"""What the published implementation gives: small cases beside the tests, all where they are at hand."""

import json
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

SMALL = Path(__file__).parent / "data" / "golden"
ALL = Path(__file__).parents[2] / "shared" / "golden"


def golden_table(name: str) -> Any:
    """A table, as its JSON holds it."""
    return json.loads((SMALL / f"{name}.json").read_text())


def golden_tensors(name: str) -> dict[str, Tensor]:
    """A case's inputs, weights and outputs, by their prefixed names."""
    return load_file(SMALL / f"{name}.safetensors")
