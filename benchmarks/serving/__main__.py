"""Our generation engine beside others: tokens per CPU second, one thread, all engines in one run.

python -m benchmarks.serving [LOAD ...]

standard  16 prompts of 300 tokens (256 of a video) and 64 new ones; random Llama of 8 layers x 512, float32;
          cold, and warm: another question about the same videos
real      a real small LLM (benchmarks.smollm), 16 questions, 1, 4 and 16 at a time
stalls    how long a stream of the real LLM stands still while others' prompts come, wall milliseconds
null      scheduler and sampler around a model that computes nothing, CPU milliseconds a step

Engines take turns, batch by batch, each in its own process. vLLM needs an environment of its own:
--vllm-python. An answer is equal if it is, token by token, that of `generate(inputs_embeds)` alone.
"""

import argparse
import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from benchmarks.record import record
from benchmarks.serving import loads, null, runs, stalls
from benchmarks.serving.peers import ENGINES
from benchmarks.serving.prompts import write_load
from benchmarks.smollm import smollm_folder

SMOLLM = Path(".work/smollm2")
REAL_ROWS = (1, 4, 16)
NULL_ROWS = (1, 16, 64)


def main() -> None:
    """Run what is asked for, print and record."""
    args = _arguments()
    torch.set_num_threads(1)
    figures: dict[str, Any] = {}
    for load in args.loads:
        print(f"\n{load}")
        figures[load] = LOADS[load](args)
        if args.json:
            args.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    if not args.json:
        print(record("serving", figures))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("loads", nargs="*", metavar="LOAD", default=["standard", "null"])
    parser.add_argument("--engines", nargs="+", choices=ENGINES, help="default: all that are there")
    parser.add_argument("--vllm-python", metavar="PATH", help="the Python of an environment with vllm")
    parser.add_argument(
        "--model", type=Path, metavar="FOLDER", default=SMOLLM, help="of real; made if absent"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here, record nothing")
    return parser.parse_args()


def _engines(args: argparse.Namespace) -> list[str]:
    return args.engines or [engine for engine in ENGINES if engine != "vllm" or args.vllm_python]


def _standard(args: argparse.Namespace) -> Any:
    with tempfile.TemporaryDirectory(prefix="btchat-bench-") as name:
        folder = Path(name)
        (folder / "model").mkdir()
        loads.write_standard_model(folder / "model")
        write_load(loads.standard(args.rounds), folder)
        return _run(args, folder, loads.ROWS, _engines(args))


def _real(args: argparse.Namespace) -> Any:
    with tempfile.TemporaryDirectory(prefix="btchat-bench-") as name:
        folder = Path(name)
        (folder / "model").symlink_to(smollm_folder(args.model).resolve())
        write_load(loads.real(args.rounds, args.model), folder)
        return {
            str(rows): _run(args, folder, rows, [e for e in _engines(args) if rows > 1 or e != "static"])
            for rows in REAL_ROWS
        }


def _run(args: argparse.Namespace, folder: Path, rows: int, engines: Sequence[str]) -> Any:
    figures = runs.run(folder, engines, rows, args.vllm_python)
    print(f"{rows} rows         tokens per CPU second    seconds")
    print("                  cold    warm      cold    warm   equal")
    for engine, f in figures.items():
        print(
            f"{engine:15}{f.tokens_per_cpu_second_cold:8.1f}{f.tokens_per_cpu_second_warm:8.1f}"
            f"{f.wall_seconds_cold:10.2f}{f.wall_seconds_warm:8.2f}   {f.num_equal} of {f.num_compared}",
            flush=True,
        )
    return {engine: asdict(f) for engine, f in figures.items()}


def _stalls(args: argparse.Namespace) -> Any:
    figures = stalls.gaps_ms(smollm_folder(args.model))
    alone = next(iter(figures.values()))
    for name, ms in figures.items():
        print(f"{name:15}{ms:8.1f} ms{ms / alone:8.2f} x", flush=True)
    return figures


def _null(_: argparse.Namespace) -> Any:
    rows_of: dict[str, dict[str, float]] = {}
    print("CPU ms a step, rows   " + "".join(f"{rows:8}" for rows in NULL_ROWS))
    for options in null.CHOICES:
        each = {str(rows): null.step_ms(rows, options) for rows in NULL_ROWS}
        rows_of[options.name] = each
        print(f"{options.name:30}" + "".join(f"{ms:8.3f}" for ms in each.values()), flush=True)
    return rows_of


LOADS: dict[str, Callable[[argparse.Namespace], Any]] = {
    "standard": _standard,
    "real": _real,
    "stalls": _stalls,
    "null": _null,
}


if __name__ == "__main__":
    main()
