"""When does it happen? Search in drawn films of an hour with 200 events each, of scenes from no training.

python -m benchmarks.search [--films N] [--twin-films N] [--split test]. A film is written, decoded in chunks
and embedded as a server would; each event is asked for twice, by its caption and in a wording that training
never has. A moment is right if it overlaps by half (IoU) with the event that the text was written for or,
"fair", with any of which it is true. Beside it: without the bank of texts, the same windows by CLIP averaged
over their frames, and what the best guess among 64 uniform frames could reach. Intervals are 95 %, from a
bootstrap over scenes. Films with twins hold each scene's twin, too: the same frames in another order, and a
text that differs in nothing else.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.record import record
from bt_model.assembly.catalog import WEIGHTS_DIR
from bt_model.search.joint_space import JointSpace
from bt_model.search.loading import load_joint_space
from bt_model.search.moments import Moment, find_moments
from bt_model.search.windows import WindowPlan
from bt_model.video.decode import decode
from bt_model.video.transform import normalise
from bt_model.vision.clip import hidden_states
from lab.shapes.films import FilmEvent, FilmPlan, write_film
from lab.shapes.queries import is_true
from lab.statistics import Share, share

MODELS = ("embedded", "embedded-clip")
KNOWN = (
    "pace",
    "change",
    "resize",
    "order",
)  # whose twins the branch tells apart: weights/embedded/REPORT.md
UNIFORM = 64  # frames of a prompt
SEEDS = {"films": 100, "films with twins": 200}
LEAST_OVERLAP = 0.5
Index = tuple[NDArray[np.float32], NDArray[np.float32]]  # of n windows: rows (n, E), commonness (n,)


@dataclass(slots=True)
class Record:
    """Right or wrong by kind and scene, for one way to search and one rule."""

    kinds: dict[str, dict[str, list[bool]]] = field(default_factory=dict[str, dict[str, list[bool]]])

    def add(self, event: FilmEvent, right: bool) -> None:
        """Note one query."""
        for kind in (event.kind, "all", *(("known",) if event.kind in KNOWN else ())):
            self.kinds.setdefault(kind, {}).setdefault(event.scene.key, []).append(right)

    def shares(self) -> dict[str, Share]:
        """R@1 by kind."""
        return {kind: share(scenes) for kind, scenes in self.kinds.items()}


@dataclass(slots=True)
class Cost:
    """Seconds and trunk passes of all films; `frames` are those that the films have at the plan's rate."""

    films: int = 0
    frames: int = 0
    passes: int = 0
    decode: float = 0.0
    embed: float = 0.0
    trunk: float = 0.0  # the same frames through the trunk alone
    queries: list[float] = field(default_factory=list[float])


def main() -> None:
    """Measure, print and record."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--films", type=int, default=3)
    parser.add_argument("--twin-films", type=int, default=1)
    parser.add_argument("--split", default="test", help="choose on val, report on test")
    parser.add_argument("--events", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=3600.0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    spaces = {name: load_joint_space(name, WEIGHTS_DIR, device="cpu") for name in MODELS}
    figures: dict[str, Any] = {"plan": asdict(WindowPlan()), **vars(args)}
    for name, count in (("films", args.films), ("films with twins", args.twin_films)):
        plans = [
            FilmPlan(args.events, args.seconds, args.split, SEEDS[name] + number, twins="twins" in name)
            for number in range(count)
        ]
        figures[name] = _measure(spaces, plans) if plans else None
    print(record("search", figures))


def _measure(spaces: dict[str, JointSpace], plans: list[FilmPlan]) -> dict[str, Any]:
    records: dict[str, Record] = {}
    costs = {name: Cost() for name in spaces}
    for plan in plans:
        with tempfile.TemporaryDirectory(prefix="btchat-bench-") as folder:
            path = Path(folder) / "film.mp4"
            events = write_film(path, plan)
            for name, space in spaces.items():
                index = _index(space, path, plan.seconds, costs[name])
                for way, event, moment in _answers(space, index, events, plan, costs[name]):
                    for rule, right in _judged(moment, event, way, events).items():
                        records.setdefault(f"{name}, {way}, {rule}", Record()).add(event, right)
        for event in events:
            guessed = any(_overlap(moment, event) >= LEAST_OVERLAP for moment in _uniform(plan.seconds))
            records.setdefault(f"best guess among {UNIFORM} uniform frames", Record()).add(event, guessed)
        print(f"{plan}: {time.process_time():.0f} CPU seconds so far", flush=True)
    shares = {name: each.shares() for name, each in records.items()}
    for name, kinds in shares.items():
        print(f"\n{name}")
        print("\n".join(f"  {kind:10} {value}" for kind, value in sorted(kinds.items())))
    return {
        "R@1": {name: {k: asdict(v) for k, v in kinds.items()} for name, kinds in shares.items()},
        "cost": {name: _figures(cost) for name, cost in costs.items()},
    }


def _index(space: JointSpace, path: Path, seconds: float, cost: Cost) -> Index:
    """The windows of a film, decoded and embedded chunk by chunk."""
    plan, pieces = WindowPlan(), list[Index]()
    count = space.encoder.tower.register_forward_pre_hook(lambda _, args: passed.append(len(args[0])))
    passed: list[int] = []
    for chunk in plan.chunks(seconds):
        begin = time.process_time()
        frames = decode(path, chunk.sampling, space.frame_size, chunk.num_frames)
        pixels = torch.from_numpy(frames.pixels[chunk.on_screen(frames.timestamps)])
        decoded = time.process_time()
        rows = space.embed_windows(pixels, plan.length, plan.stride)
        pieces.append((rows.numpy(), space.commonness(rows).numpy()))
        embedded = time.process_time()
        cost.decode += decoded - begin
        cost.embed += embedded - decoded
        cost.passes += sum(passed)
        passed.clear()
        with torch.inference_mode():
            hidden_states(space.encoder.tower, normalise(pixels)[None], space.encoder.reads)
        cost.trunk += time.process_time() - embedded
        passed.clear()
    count.remove()
    cost.films += 1
    cost.frames += plan.num_frames(seconds)
    return np.concatenate([rows for rows, _ in pieces]), np.concatenate([common for _, common in pieces])


def _answers(
    space: JointSpace, index: Index, events: list[FilmEvent], plan: FilmPlan, cost: Cost
) -> Iterator[tuple[str, FilmEvent, Moment]]:
    """The first moment for each event, by caption, by paraphrase, and by caption without the bank."""
    rows, common = index
    for event in events:
        for way, text, less in (
            ("caption", event.caption, common),
            ("paraphrase", event.paraphrase, common),
            ("caption without bank", event.caption, np.zeros_like(common)),
        ):
            begin = time.process_time()
            found = find_moments(
                rows @ space.embed_texts([text]).numpy()[0] - less, WindowPlan(), plan.seconds
            )
            cost.queries.append(time.process_time() - begin)
            yield way, event, found[0]


def _judged(moment: Moment, event: FilmEvent, way: str, events: list[FilmEvent]) -> dict[str, bool]:
    """Strict: the event that the text was written for. Fair: any event of which it is true."""
    text = event.paraphrase if way == "paraphrase" else event.caption
    found = [each for each in events if _overlap(moment, each) >= LEAST_OVERLAP]
    return {
        "strict": event in found,
        "fair": event in found or any(is_true(text, event.scene, each.scene) for each in found),
    }


def _overlap(moment: Moment, event: FilmEvent) -> float:
    """Intersection over union of the two stretches."""
    shared = max(min(moment.end, event.end) - max(moment.start, event.begin), 0.0)
    return shared / (moment.end - moment.start + event.end - event.begin - shared)


def _uniform(seconds: float) -> list[Moment]:
    """A window around each frame of a uniform prompt."""
    half, step = WindowPlan().length / WindowPlan().fps / 2, seconds / UNIFORM
    middles = ((number + 0.5) * step for number in range(UNIFORM))
    return [Moment(middle - half, middle + half, 0.0, 0.0) for middle in middles]


def _figures(cost: Cost) -> dict[str, float]:
    figures = {
        "trunk passes for each frame of the film": cost.passes / cost.frames,
        "index, CPU seconds": cost.embed,
        "of the trunk alone": cost.embed / cost.trunk,
        "decode, CPU seconds": cost.decode,
        "query, median milliseconds": 1000 * float(np.median(cost.queries)),
        "query, of the index": float(np.median(cost.queries))
        / ((cost.embed + cost.decode) / cost.frames * 7200),
    }
    print("\n".join(f"  {name:42}{value:10.4f}" for name, value in figures.items()))
    return figures


if __name__ == "__main__":
    main()
