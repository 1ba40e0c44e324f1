"""The paper's claims as tests. Thresholds were fixed before the grid was run.

The primary measure is the mean share of twins told apart, over the event kinds that only order tells apart.
A model that is blind to order reaches 0.5 there, whatever else it knows.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lab.evidence.results import Result
from lab.evidence.rows import BASE, CAPTIONED, CLIP, VTC_ONLY, Row, in_table
from lab.evidence.study import Study
from lab.shapes.events import REVERSIBLE
from lab.statistics import (
    Share,
    holm,
    is_equivalent,
    mcnemar,
    mean_difference,
    mean_share,
    sign_test,
)

CEILING = 0.5  # of a model that is blind to order
KINDS_ABOVE = 4  # of the six reversible kinds
MARGIN = 0.02  # in which static answers count as unchanged
PLUG_IN = 0.8  # of a recipe: twins told apart by the chat model that never saw video
PLUG_IN_KINDS = ("direction", "order")
LEVEL = 0.05


@dataclass(frozen=True, slots=True)
class Claim:
    """What is claimed, what would show it, what was found, and whether it holds."""

    text: str
    test: str
    found: str
    holds: bool


@dataclass(frozen=True, slots=True)
class KindTest:
    """One event kind: CLIP's share of twins, the branch's, and the p value, corrected after Holm."""

    kind: str
    clip: Share
    branch: Share
    p_value: float


def kind_tests(study: Study) -> list[KindTest]:
    """The reversible kinds one by one."""
    base, clip = study.results[BASE.name], study.results[CLIP.name]
    p_values: dict[str, float] = {}
    for kind in REVERSIBLE:
        # a model that is blind to order has one of two twins right; what guesses has both as often as neither
        credit = np.concatenate([result.answers[f"twins/{kind}"] for result in base])
        p_values[kind] = mcnemar((credit == 1).all(axis=1), (credit == 0).all(axis=1))
    adjusted = holm(p_values)
    return [
        KindTest(kind, share_of(clip, f"twins/{kind}"), share_of(base, f"twins/{kind}"), adjusted[kind])
        for kind in REVERSIBLE
    ]


def share_of(results: Sequence[Result], measure: str, like: Result | None = None) -> Share:
    """A measure ("twins"), or one kind of it ("twins/move"), over all seeds; `like` as in `Result.of`."""
    return mean_share([result.of(measure, like) for result in results])


def difference(ours: Sequence[Result], theirs: Sequence[Result], measure: str) -> Share:
    """How much larger the first is, paired by scene and seed, on the scenes that both have answers about."""
    first = [result.of(measure, theirs[0]) for result in ours]
    second = [result.of(measure, ours[0]) for result in theirs]
    return mean_difference(first, second)


def claims(study: Study) -> list[Claim]:
    """Every claim that is a matter of statistics."""
    return [
        _time(study),
        _controls(study),
        *_static(study),
        _plug_in(
            study, BASE, "Plugged into a chat model that never saw video, it makes it answer about time"
        ),
        _losses(study),
        *_recipes(study),
    ]


def _time(study: Study) -> Claim:
    above = [test for test in kind_tests(study) if test.branch.low > CEILING]
    primary = share_of(study.results[BASE.name], "twins")
    return Claim(
        "The branch understands time where averaged frames cannot",
        f"95 % lower bound of twins told apart above {CEILING} for {KINDS_ABOVE} of {len(REVERSIBLE)}"
        " kinds, held-out combinations",
        f"{len(above)} of {len(REVERSIBLE)} kinds; mean {primary}",
        len(above) >= KINDS_ABOVE,
    )


def _controls(study: Study) -> Claim:
    base = study.results[BASE.name]
    shares = {name: share_of(base, name) for name in ("shuffled", "one picture")}
    return Claim(
        "It does so by the order of the frames alone",
        f"with shuffled frames, and with one picture only, the 95 % interval holds {CEILING}",
        "; ".join(f"{name} {share}" for name, share in shares.items()),
        all(share.low <= CEILING <= share.high for share in shares.values()),
    )


def _static(study: Study) -> list[Claim]:
    change = difference(study.results[BASE.name], study.results[CLIP.name], "static")
    points = f"{100 * MARGIN:g} points"
    return [
        Claim(
            "It knows static things as well as CLIP",
            f"two one-sided tests: shape, colour, background within {points} of averaged CLIP",
            f"difference {change}" + ("; better, so nothing is lost" if change.low > 0 else ""),
            is_equivalent(change, MARGIN),
        ),
        Claim(
            "It knows static things no worse than CLIP",
            f"95 % lower bound of the same difference above -{points}; added after the first run, which was"
            " better",
            f"difference {change}",
            change.low > -MARGIN,
        ),
    ]


def _plug_in(study: Study, row: Row, text: str) -> Claim:
    base, clip = study.results[row.name], study.results[CLIP.name]
    shares = {kind: share_of(base, f"chat/{kind}") for kind in PLUG_IN_KINDS}
    static = difference(base, clip, "chat static")
    return Claim(
        text,
        f"95 % lower bound above {CEILING} for {' and '.join(PLUG_IN_KINDS)}",
        "; ".join(f"{kind} {share}" for kind, share in shares.items()) + f"; static answers {static}",
        all(share.low > CEILING for share in shares.values()),
    )


def _losses(study: Study) -> Claim:
    pairs = zip(study.results[BASE.name], study.results[VTC_ONLY.name], strict=False)
    gains = [float(ours.of("first", theirs).mean() - theirs.of("first").mean()) for ours, theirs in pairs]
    p_value = sign_test(sum(gain > 0 for gain in gains), sum(gain < 0 for gain in gains))
    return Claim(
        "MBTA and MBCA help (Table 7)",
        f"sign test over seeds of R@1 with all losses above VTC alone, p < {LEVEL}",
        f"gains {', '.join(f'{gain:+.3f}' for gain in gains)}; p = {p_value:.3f}"
        f" ({len(gains)} seeds cannot give less than {sign_test(len(gains), 0):.3f})",
        p_value < LEVEL,
    )


def _recipes(study: Study) -> list[Claim]:
    clip = study.results[CLIP.name]
    found: list[Claim] = []
    for row in in_table("R"):
        if row.name not in study.results:
            continue
        results = study.results[row.name]
        chat, static = share_of(results, "chat"), difference(results, clip, "chat static")
        found.append(
            Claim(
                f"Beyond the paper, {row.name}: {row.about}",
                f"plug-in answers about order at least {PLUG_IN}, static answers lose at most {MARGIN}",
                f"about order {chat}; static {static}",
                chat.value >= PLUG_IN and static.value >= -MARGIN,
            )
        )
    if CAPTIONED.name in study.results:
        text = f"Plugged in after {CAPTIONED.name}, the branch lets the chat model answer about time"
        found.append(_plug_in(study, CAPTIONED, text))
    return found
