"""No text of the repository cites a document, a heading in one, or a specification that is not there."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MAX_BYTES = 1 << 20  # larger files are data

DOCUMENT = re.compile(r"\bdocs/[\w-]+\.md")
HEADINGS = re.compile(r'(docs/[\w-]+\.md)((?:(?:,| and) "[^"\n]+")+)')
WRAPPED = re.compile(r"\n[ \t]*(?:# )?")  # a citation may continue on the next line of a comment
MISSING = re.compile(
    r"\bspec(?:ification)?s?,? (?:section )?§?\d|reference-behaviou?r|\bspec(?:ification)?, section"
)


@pytest.fixture(scope="module")
def texts() -> dict[Path, str]:
    """Every tracked text file, by its path from the root."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    return dict(_readable([Path(name) for name in listed.stdout.split("\0") if name]))


def _readable(names: list[Path]) -> Iterator[tuple[Path, str]]:
    for name in names:
        path = ROOT / name
        if path.is_file() and path.stat().st_size <= MAX_BYTES:
            try:
                yield name, path.read_text(encoding="utf-8")
            except UnicodeDecodeError:
                continue


def headings_of(document: str) -> list[str]:
    lines = (ROOT / document).read_text(encoding="utf-8").splitlines()
    return [line.lstrip("#").strip() for line in lines if line.startswith("#")]


def test_every_cited_document_exists(texts: dict[Path, str]) -> None:
    cited = [(name, found) for name, text in texts.items() for found in DOCUMENT.findall(text)]
    assert len(cited) > 50
    assert [each for each in cited if not (ROOT / each[1]).is_file()] == []


def test_every_cited_heading_exists(texts: dict[Path, str]) -> None:
    cited = [
        (name, document, heading)
        for name, text in texts.items()
        for document, quoted in HEADINGS.findall(WRAPPED.sub(" ", text))
        for heading in re.findall(r'"([^"]+)"', quoted)
    ]
    assert len(cited) > 20
    assert [each for each in cited if each[2] not in headings_of(each[1])] == []


def test_no_text_cites_a_specification_that_is_not_here(texts: dict[Path, str]) -> None:
    found = [f"{name}: {hit[0]}" for name, text in texts.items() for hit in MISSING.finditer(text.lower())]
    assert found == []
