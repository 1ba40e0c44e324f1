"""What happened in a run, in order; the same seed gives the same lines."""

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.simulation.loop import SimulatedLoop


@dataclass(slots=True)
class Trace:
    """Lines of seconds, who, and what."""

    loop: "SimulatedLoop | None" = None
    lines: list[tuple[float, str, str]] = field(default_factory=list[tuple[float, str, str]])

    def add(self, who: str, what: str) -> None:
        self.lines.append((self.loop.time() if self.loop else 0.0, who, what))

    def text(self) -> str:
        return "\n".join(f"{seconds:9.3f}  {who:<12} {what}" for seconds, who, what in self.lines)

    def digest(self) -> str:
        return hashlib.sha256(self.text().encode()).hexdigest()
