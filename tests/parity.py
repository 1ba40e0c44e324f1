"""`python -m tests.parity DIR`: every golden case of a folder against our modules, a line each."""

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from tests.parity_cases import language, pretraining, video, vision
from tests.parity_cases.case import Case, Check, NotRunError

RUNNERS: dict[str, Callable[[Case], list[Check]]] = {
    "chat_infer": vision.chat_infer,
    "chat_loader": vision.chat_loader,
    "chat_train": vision.chat_train,
    "retrieval_eval": vision.retrieval_eval,
    "clip_baseline_eval": vision.clip_baseline_eval,
    "eva_eval": vision.retrieval_eval,
    "eva_baseline_eval": vision.clip_baseline_eval,
    "pretrain_step_clip": pretraining.step,
    "pretrain_step_eva": pretraining.step,
    "losses": pretraining.losses,
    "metrics": pretraining.metrics,
    "clip_text": language.clip_text,
    "eva_text": language.eva_text,
    "llm_splice": language.llm_splice,
    "preprocess_chat": video.preprocess_chat,
    "preprocess_retrieval": video.preprocess_retrieval,
}
TABLES: dict[str, Callable[[Path], list[Check]]] = {
    "sampler": video.sampler,
    "tokenizer": language.tokenizer,
}
USAGE_ERROR = 2


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one case: its checks, or a reason to skip it."""

    id: str
    kind: str
    checks: tuple[Check, ...] = ()
    skipped: str = ""

    @property
    def verdict(self) -> str:
        if self.skipped:
            return "skip"
        return "ok" if self.checks and all(check.is_ok for check in self.checks) else "FAIL"

    def __str__(self) -> str:
        head = f"{self.id:32} {self.kind:20}"
        if self.skipped or not self.checks:
            return f"{head} {'-':>8} {'-':>8} {self.verdict} ({self.skipped or 'nothing to compare'})"
        worst = max(self.checks, key=lambda check: (not check.is_ok, check.error))
        bad = [f"{check.name} {check.error:.1e}" for check in self.checks if not check.is_ok]
        return f"{head} {worst.error:8.1e} {worst.tolerance:8.1e} {' '.join([self.verdict, *bad])}"


@dataclass(frozen=True, slots=True)
class Job:
    """One case or table, not run yet."""

    id: str
    kind: str
    checks: Callable[[], list[Check]]

    def run(self) -> Outcome:
        try:
            with torch.no_grad():
                return Outcome(self.id, self.kind, tuple(self.checks()))
        except NotRunError as reason:
            return Outcome(self.id, self.kind, skipped=str(reason))
        except Exception as error:  # noqa: BLE001 - a case that breaks is a failed case, and the next one runs
            broken = Check(f"{type(error).__name__}: {error}", float("inf"), 0.0)
            return Outcome(self.id, self.kind, (broken,))


def jobs(folder: Path) -> list[Job]:
    """The cases of folder/cases.json in their order, then the tables beside it."""
    index: dict[str, Any] = json.loads((folder / "cases.json").read_text())
    tolerance = index["recommended_tolerance"]["activations"]
    cases = [
        Job(record["id"], record["kind"], partial(_check_case, folder, record, tolerance))
        for record in index["cases"]
    ]
    paths = [(folder / f"{name}.json", check) for name, check in TABLES.items()]
    return cases + [Job(path.stem, "table", partial(check, path)) for path, check in paths if path.is_file()]


def _check_case(folder: Path, record: Mapping[str, Any], tolerance: float) -> list[Check]:
    kind = record["kind"]
    return RUNNERS[kind](Case.read(folder, record, tolerance))


def main(arguments: list[str]) -> int:
    """Print a line per case and the counts; 1 on a failure."""
    if len(arguments) != 1 or not (Path(arguments[0]) / "cases.json").is_file():
        sys.stderr.write("usage: python -m tests.parity DIR   (DIR holds cases.json)\n")
        return USAGE_ERROR
    counts = {"ok": 0, "FAIL": 0, "skip": 0}
    for job in jobs(Path(arguments[0])):
        outcome = job.run()
        counts[outcome.verdict] += 1
        sys.stdout.write(f"{outcome}\n")
    sys.stdout.write(f"{counts['ok']} passed, {counts['FAIL']} failed, {counts['skip']} skipped\n")
    return 1 if counts["FAIL"] else 0


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(main(sys.argv[1:]))
