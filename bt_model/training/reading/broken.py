"""Clips that cannot be read, noted in files, so that a resumed run need not find out again."""

import json
from pathlib import Path

_SHOWN = 3


class BrokenClips:
    """By source, with the reason: those that any rank knew when the run began, and this rank's own."""

    def __init__(self, work: Path, rank: int) -> None:
        work.mkdir(parents=True, exist_ok=True)
        self._own = work / f"broken-{rank}.jsonl"
        self.reasons: dict[str, str] = {}
        for path in sorted(work.glob("broken-*.jsonl")):
            for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
                if line.endswith("\n"):  # a crash may have cut the last one
                    source, why = json.loads(line)
                    self.reasons[source] = why

    def add(self, source: str, why: str) -> None:
        """Note one, at once; it may have been tried for several samples."""
        if source in self.reasons:
            return
        self.reasons[source] = why
        with self._own.open("a", encoding="utf-8") as file:
            file.write(json.dumps([source, why]) + "\n")

    def __str__(self) -> str:
        last = [*self.reasons.items()][-_SHOWN:]
        return "; ".join(f"{source.split(':', 2)[2]}: {why}" for source, why in last)
