"""`make videos`: every file is compared, and docs/videos.md is written."""

import argparse
import re
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.videos import page, real
from tests.videos.comparison import Line, compared
from tests.videos.drawn import numbered, pairs, stills
from tests.videos.film import Film, Missing
from tests.videos.variants import variants

_JOBS = 2


@dataclass(frozen=True, slots=True)
class Work:
    """What is to be compared."""

    films: Sequence[Film]
    missing: Sequence[Missing]
    absent: Sequence[tuple[str, str]]


def main() -> int:
    """1 where a line is not met; with a pattern, only the files whose names it matches, and no page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("only", nargs="?", default="", help="a regular expression for names of files")
    only = re.compile(parser.parse_args().only)
    begin = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="btchat-videos-") as name:
        work = _work(Path(name))
        lines = list(_measured([film for film in work.films if only.search(film.name)]))
    if only.pattern:
        sys.stdout.write("".join(f"{page.row(line)}\n" for line in lines))
    else:
        page.PAGE.write_text(
            page.text(lines, work.missing, work.absent, time.monotonic() - begin), encoding="utf-8"
        )
    bad = [line for line in lines if not line.is_good]
    _say(f"{len(lines) - len(bad)} of {len(lines)} lines met in {time.monotonic() - begin:.0f} s")
    return 1 if bad or not lines else 0


def _work(folder: Path) -> Work:
    absent = list(real.fetched())
    for package, why in absent:
        _say(f"without {package}: {why}")
    source = numbered(folder)
    found = list(pairs(source, folder))
    paired = [each for each in found if isinstance(each, Film)]
    films = [*paired, *stills(source), *variants(source, folder), *real.originals(), *real.transcodes(paired)]
    _say(f"{len(films)} files")
    return Work(films, [each for each in found if isinstance(each, Missing)], absent)


def _measured(films: Sequence[Film]) -> Iterator[Line]:
    with ProcessPoolExecutor(_JOBS) as pool:
        for number, lines in enumerate(pool.map(compared, films), 1):
            for line in lines:
                if not line.is_good:
                    _say(page.row(line))
                yield line
            _say(f"{number} of {len(films)}: {lines[0].film.name}")


def _say(words: str) -> None:
    sys.stderr.write(f"{words}\n")


if __name__ == "__main__":
    sys.exit(main())
