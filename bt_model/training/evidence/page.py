"""docs/evidence.md: the paper's tables beside what the grid found, and which claims hold."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from bt_model.training.corpus.events import REVERSIBLE
from bt_model.training.evidence.claims import Claim, claims, kind_tests, share_of
from bt_model.training.evidence.results import Result
from bt_model.training.evidence.rows import BASE, in_table
from bt_model.training.evidence.study import Study

# What the paper prints for its rows (tables 1, 6, 7, 10 and 11), and what the numbers are.
PRINTED: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "1": (
        "correctness / temporal, 0 to 5",
        {
            "tuned-mean": "2.38 / 1.93", "tuned-frames": "-", "tuned-st-pooling": "2.40 / 1.98",
            "tuned-joint-st": "1.92 / 2.11", "tuned-separate-st-open": "2.10 / 2.13",
            "tuned-separate-st": "2.29 / 2.01", "tuned-bt-adapter": "2.55 / 2.26",
        },
    ),
    "6": (
        "R@1 MSR-VTT / DiDeMo / temporal",
        {
            "clip": "35.4 / 30.3 / 1.78", "separate-st-last": "35.7 / 31.0 / 1.81",
            "branch-alone": "37.4 / 32.9 / 1.97", "vtc": "38.5 / 33.9 / 2.06",
        },
    ),
    "7": (
        "R@1 MSR-VTT / DiDeMo",
        {"vtc": "38.5 / 33.9", "vtc-mbta": "39.3 / 34.3", "vtc-mbca": "40.1 / 34.9", "bt-adapter": "40.9 / 35.6"},
    ),
    "10": (
        "R@1 MSR-VTT / correctness / temporal",
        {
            "clip": "35.4 / 2.06 / 1.78", "st-adapter": "33.6 / 1.52 / 1.71", "stan-open": "40.5 / 1.84 / 1.77",
            "stan-frozen": "38.1 / 2.07 / 1.92", "bt-adapter": "40.9 / 2.16 / 2.13",
        },
    ),
    "11": (
        "R@1 MSR-VTT / DiDeMo",
        {
            "projection-none": "39.1 / 33.5", "projection-random": "39.3 / 34.0", "bt-adapter": "40.9 / 35.6",
            "addition": "40.0 / 34.4", "concatenation": "39.8 / 34.5",
        },
    ),
    "F3": ("a plateau at 4 to 6 of 24 layers", {}),
    "F4": ("flat up to 70 %, falling above", {}),
    "R": ("not in the paper", {}),
}  # fmt: skip
TITLES = {
    "1": "Table 1: which temporal model to tune",
    "6": "Table 6: what the branch is made of",
    "7": "Table 7: losses",
    "10": "Table 10: related adapters",
    "11": "Table 11: temporal projection, and how trunk and branch are combined",
    "F3": "Figure 3: branch layers",
    "F4": "Figure 4: mask rate",
    "R": "Beyond the paper: a recipe that keeps static answers",
}
MEASURES = {
    "twins": "twins told apart",
    "first": "R@1 of 100 pairs",
    "static": "static, as an encoder",
    "chat": "answers about order",
    "chat static": "static answers",
}
SHOWN = ("twins", "first", "static", "chat", "chat static")


def write_page(path: Path, study: Study, pictures: Mapping[str, str]) -> None:
    """Write the page; `pictures` are file names beside it, by table."""
    lines = [
        *_head(study),
        "## What holds",
        "",
        *_table(
            ("claim", "test, fixed before the run", "found", "holds"), [_verdict(c) for c in claims(study)]
        ),
        "## Kind by kind",
        "",
        "Twins told apart, with McNemar's test of both twins right, corrected after Holm.",
        "",
        *_table(
            ("event", "CLIP, averaged", "BT-Adapter", "p"),
            [(t.kind, str(t.clip), str(t.branch), f"{t.p_value:.2g}") for t in kind_tests(study)],
        ),
    ]
    for table, title in TITLES.items():
        lines += [f"## {title}", "", *_rows(table, study)]
        if table in pictures:
            lines += [f"![{title}]({pictures[table]})", ""]
    path.write_text("\n".join(lines), encoding="utf-8")


def _head(study: Study) -> list[str]:
    size = study.size
    return [
        "# Evidence",
        "",
        "Written by `btchat train ablate`. The question is which of the paper's claims hold at the smallest scale",
        "at which they can be asked: clips of one drawn thing, a CLIP of 6 layers and a language model of a million",
        "parameters, all trained by this project. Nothing here says what a model of the paper's size does.",
        "",
        f"- Training: {size.num_clips} clips of the kinds {', '.join(REVERSIBLE)} and still ones, and their twins;",
        f"  {size.pretrain_steps} steps of {size.pretrain_batch} in pre-training, {size.instruct_steps} of"
        f" {size.instruct_batch} in tuning (Table 1), seeds {', '.join(map(str, study.seeds))}.",
        "- A twin holds the same frames in the opposite order, so a model that is blind to order has at most 0.5 of",
        "  the twins, of R@1 among a hundred pairs, and of the answers about order.",
        f"- Test clips are of combinations of colour, shape and event that training never shows: {size.num_test}"
        f" scenes a kind, {size.num_headline}",
        f"  for CLIP and {BASE.name} where they are told kind by kind.",
        "- Chat answers come from a chat model that was trained on single pictures with drawn cues and never saw a",
        "  video; in Table 1 its projector and the temporal model were tuned, the language model stayed frozen.",
        "- Intervals are 95 %, from a bootstrap over seeds and scenes; a scene and its twin count as one.",
        "- Towers are the same for all seeds: the intervals say nothing about other towers.",
        "",
    ]  # fmt: skip


def _verdict(claim: Claim) -> tuple[str, ...]:
    return claim.text, claim.test, claim.found, "yes" if claim.holds else "**no**"


def _rows(table: str, study: Study) -> list[str]:
    printed_as, printed = PRINTED[table]
    rows = [row for row in in_table(table) if row.name in study.results]
    measures = [name for name in SHOWN if any(study.results[row.name][0].has(name) for row in rows)]
    head = ("model", f"paper: {printed_as}" if printed else f"paper: {printed_as}", *(MEASURES[m] for m in measures),
            "seeds", "learning", "tokens", "CPU s/step", "MiB")  # fmt: skip
    like = _fewest(study)
    body: list[tuple[str, ...]] = []
    for row in rows:
        results = study.results[row.name]
        cost = results[0].cost
        shares = [_share(results, name, like) for name in measures]
        first = measures[0]
        seeds = " ".join(f"{result.of(first, like).mean():.3f}" for result in results)
        body.append(
            (
                row.about,
                printed.get(row.name, "-"),
                *shares,
                seeds,
                f"{cost.num_trainable:,}",
                str(cost.num_tokens),
                f"{cost.step_seconds:.2f}",
                f"{cost.peak_mebibytes:.0f}",
            )  # fmt: skip
        )
    return _table(head, body)


def _fewest(study: Study) -> Result | None:
    """A result that was asked about the scenes that all rows share."""
    encoders = [results[0] for results in study.results.values() if results[0].has("twins")]
    return min(encoders, key=lambda result: len(result.of("twins")), default=None)


def _share(results: Sequence[Result], measure: str, like: Result | None) -> str:
    if not results[0].has(measure):
        return "-"
    share = share_of(results, measure, None if measure.startswith("chat") else like)
    return f"{share.value:.3f} [{share.low:.3f}, {share.high:.3f}]"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [*("| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows)), ""]
