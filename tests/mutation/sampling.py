"""Which mutants are tried: a seeded draw, all locks, or all of one line."""

from collections.abc import Mapping
from random import Random

from tests.mutation.mutants import Mutant, mutants
from tests.mutation.mutators import HALF_WEIGHT


def drawn(texts: Mapping[str, str], count: int, seed: int) -> list[Mutant]:
    """A file by its lines, then one of its mutants; none twice, locks apart (`locks` is for those)."""
    rng = Random(seed)
    files = {file: text.count("\n") for file, text in sorted(texts.items()) if text.strip()}
    left: dict[str, list[Mutant]] = {}
    taken: list[Mutant] = []
    while files and len(taken) < count:
        (file,) = rng.choices(list(files), list(files.values()))
        if file not in left:
            left[file] = [mutant for mutant in mutants(file, texts[file]) if mutant.kind != "lock"]
        if not left[file]:
            del files[file]
            continue
        weights = [0.5 if mutant.kind in HALF_WEIGHT else 1.0 for mutant in left[file]]
        (place,) = rng.choices(range(len(weights)), weights)
        taken.append(left[file].pop(place))
    return taken


def locks(texts: Mapping[str, str]) -> list[Mutant]:
    """Every removal of a lock."""
    return [
        mutant
        for file, text in sorted(texts.items())
        if "with " in text
        for mutant in mutants(file, text)
        if mutant.kind == "lock"
    ]


def of_line(texts: Mapping[str, str], place: str) -> list[Mutant]:
    """All mutants of FILE:LINE.

    Raises:
        ValueError: no such file, or nothing to change on this line.
    """
    file, _, line = place.rpartition(":")
    if file not in texts:
        raise ValueError(f"{place}: not a source file of these paths")
    found = [mutant for mutant in mutants(file, texts[file]) if mutant.line == int(line)]
    if not found:
        raise ValueError(f"{place}: nothing to change on this line")
    return found
