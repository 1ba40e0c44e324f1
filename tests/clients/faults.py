"""One bad request never hurts the next, behind a gateway."""

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, replace

from tests.clients.environments import OPENAI3, PROGRAMS
from tests.clients.host import Place

_MARK = "FAULTS "


@dataclass(frozen=True, slots=True)
class Interleaved:
    """Faulty requests with good ones between them: `refused` good ones, and kinds that no 4xx refused."""

    faulty: int
    kinds: int
    refused: Sequence[str]
    passed: Sequence[str]

    @property
    def text(self) -> str:
        return (
            f"{self.faulty} faulty requests of {self.kinds} kinds, a good one after each: "
            f"{len(self.refused)} good ones refused, {len(self.passed)} kinds not refused with a 4xx"
        )

    @property
    def faults(self) -> list[str]:
        return [*self.refused, *self.passed]


def interleaved(gateways: Sequence[Place]) -> Interleaved:
    """Through every gateway and both of its providers."""
    runs = [_run(replace(place, model=model)) for place in gateways for model in ("openai", "vllm")]
    return Interleaved(
        sum(run.faulty for run in runs),
        max(run.kinds for run in runs),
        [each for run in runs for each in run.refused],
        sorted({each for run in runs for each in run.passed}),
    )


def _run(place: Place) -> Interleaved:
    command = [*OPENAI3.start(), str(PROGRAMS / "gateway_faults.py")]
    done = subprocess.run(
        command, env=place.environment(), capture_output=True, text=True, timeout=300, check=False
    )
    (line,) = [line for line in done.stdout.splitlines() if line.startswith(_MARK)] or [done.stderr[-300:]]
    found = json.loads(line.removeprefix(_MARK))
    passed = [f"{kind}: {said}" for kind, said in found["passed"].items()]
    return Interleaved(found["faulty"], found["kinds"], found["refused"], passed)
