"""Settings of a run from TOML files and the command line, and what a resumed run may change."""

from pathlib import Path

import pytest
from pydantic import Field

from bt_model.errors import InvalidValueError
from bt_model.settings.layers import layered
from bt_model.settings.section import Section, Share
from bt_model.settings.toml_file import read_toml
from bt_model.training.settings import plain, read_assignment, settings_from


class Part(Section):
    """A section."""

    count: int = 1
    share: Share | None = 0.5
    names: tuple[str, ...] = ()
    rates: dict[str, float] = Field(default_factory=dict[str, float])
    on: bool = False


class Whole(Section):
    """Settings."""

    part: Part = Part()


def test_values_are_taken_as_their_fields_have_them(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text('[part]\ncount = 3\nshare = 1\nnames = ["x"]\non = true\n[part.rates]\na = 1\n')
    whole = settings_from(Whole, read_toml(path))
    assert whole == Whole(part=Part(count=3, share=1.0, names=("x",), rates={"a": 1.0}, on=True))
    assert isinstance(whole.part.share, float)
    assert settings_from(Whole, plain(whole)) == whole


def test_none_leaves_a_value_out() -> None:
    whole = settings_from(Whole, {"part": {"share": "none"}})
    assert whole.part.share is None
    assert settings_from(Whole, plain(whole)) == whole


def test_later_layers_stand_above_earlier_ones_value_by_value() -> None:
    layers = [
        {"part": {"count": 1, "on": False}},
        {"part": {"on": True}},
        read_assignment("part.share=0.25"),
    ]
    assert layered(*layers) == {"part": {"count": 1, "on": True, "share": 0.25}}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a.b=3", 3),
        ("a.b = 2e-6", 2e-6),
        ("a.b=[1, 2]", [1, 2]),
        ("a.b=word/other", "word/other"),
        ('a.b="3"', "3"),
    ],
)
def test_an_assignment_is_spelt_as_in_toml_or_as_a_bare_word(text: str, value: object) -> None:
    assert read_assignment(text) == {"a": {"b": value}}


@pytest.mark.parametrize("text", ["a=3", "a.b", "=3", ".b=3"])
def test_an_assignment_names_section_key_and_value(text: str) -> None:
    with pytest.raises(InvalidValueError, match=r"allowed: section\.key=value"):
        read_assignment(text)


def test_a_file_that_is_no_toml_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text("[part\n")
    with pytest.raises(InvalidValueError, match=r"a\.toml: not TOML"):
        read_toml(path)
