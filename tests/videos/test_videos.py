"""The comparison sees what it is for, and its page has every container and codec that is accepted."""

from dataclasses import replace
from pathlib import Path

import pytest

from bt_model.video.formats import CODECS, FORMATS
from tests.videos import page
from tests.videos.comparison import Line, compared
from tests.videos.drawn import ENCODERS, SUFFIXES, numbered
from tests.videos.film import COUNT, Film
from tests.videos.program import Shown
from tests.videos.variants import variants


@pytest.fixture
def film(tmp_path: Path) -> Film:
    options = ("-c:v", *ENCODERS["h264"])
    return Film("a.mp4", "mp4", "h264", "drawn", numbered(tmp_path), options, numbers=range(COUNT))


def with_pyav(film: Film) -> Line:
    (line,) = (line for line in compared(film) if line.reader == "pyav")
    return line


def test_a_file_that_is_shown_as_it_is_is_met(film: Film) -> None:
    line = with_pyav(film)
    assert line.is_good
    assert (line.frames, line.wrong, page.row(line).endswith("| met |")) == (COUNT, 0, True)


def test_another_order_of_frames_is_seen(film: Film) -> None:
    line = with_pyav(replace(film, numbers=[1, 0, *range(2, COUNT)]))
    assert (line.wrong, line.is_good) == (2, False)


@pytest.mark.parametrize("shown", [Shown(flipped=True), Shown(matrix="bt709"), Shown(turned=180)])
def test_another_picture_is_seen(film: Film, shown: Shown) -> None:
    line = with_pyav(replace(film, shown=shown))
    assert max(line.greys) > 2
    assert not line.is_good


@pytest.mark.parametrize("name", ["vfr.mkv", "slots-b.avi", "wide-turned.mp4", "cut.mp4"])
def test_variants_are_met(tmp_path: Path, name: str) -> None:
    (film,) = (film for film in variants(numbered(tmp_path), tmp_path) if film.name == name)
    assert with_pyav(film).is_good


def test_the_page_has_every_container_and_codec_and_no_wrong_frame_of_the_default_reader() -> None:
    rows = [line.split(" | ") for line in page.PAGE.read_text(encoding="utf-8").splitlines()]
    rows = [row for row in rows if len(row) == 9 and row[4].isdecimal()]
    assert {row[0].removeprefix("| ") for row in rows} == {
        each.name
        for name, each in FORMATS.items()
        if name != "pictures"  # the page says why
    }
    assert {row[1] for row in rows} & {*CODECS} == {*ENCODERS} == {*CODECS} - {"wmv3", "vc1"}
    assert [row for row in rows if row[3] == "pyav" and row[8] != "met |"] == []
    assert {*SUFFIXES} == {name for name, each in FORMATS.items() if each.demuxer}
