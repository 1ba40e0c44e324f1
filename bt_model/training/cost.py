"""What a run cost so far, over all its sessions."""

import json
import math
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(slots=True)
class Trained:
    """What a stage cost: CPU seconds and wall seconds over all its sessions, and its last mean loss."""

    cpu_seconds: float = 0.0
    wall_seconds: float = 0.0
    loss: float = math.nan


@contextmanager
def metered(path: Path) -> Generator[Trained]:
    """Add what a block costs to what earlier sessions spent, kept in `path`; for work that has no steps."""
    trained = Trained(*json.loads(path.read_text())) if path.exists() else Trained()
    cpu, wall = time.process_time(), time.monotonic()
    try:
        yield trained
    finally:
        trained.cpu_seconds += time.process_time() - cpu
        trained.wall_seconds += time.monotonic() - wall
        path.write_text(json.dumps([trained.cpu_seconds, trained.wall_seconds]))
