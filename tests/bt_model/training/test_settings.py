"""Settings from TOML, presets and the command line: what is taken, and what is refused by name."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from bt_model.errors import InvalidValueError
from bt_model.training.settings import fill, overlaid, plain, read_assignment, read_toml


@dataclass(frozen=True)
class Part:
    """A section."""

    count: int = 1
    share: float | None = 0.5
    kind: Literal["a", "b"] = "a"
    names: tuple[str, ...] = ()
    rates: dict[str, float] = field(default_factory=dict[str, float])
    on: bool = False

    def __post_init__(self) -> None:
        if self.count < 0:
            raise InvalidValueError(f"count is {self.count}; allowed: 0 or more", param="count")


@dataclass(frozen=True)
class Whole:
    """Settings."""

    part: Part = field(default_factory=Part)


def test_values_are_taken_as_their_fields_have_them(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text(
        '[part]\ncount = 3\nshare = 2\nkind = "b"\nnames = ["x"]\non = true\n[part.rates]\na = 1\n'
    )
    whole = fill(Whole, read_toml(path))
    assert whole == Whole(Part(3, 2.0, "b", ("x",), {"a": 1.0}, on=True))
    assert isinstance(whole.part.share, float)
    assert fill(Whole, plain(whole)) == whole


def test_none_leaves_a_value_out() -> None:
    whole = fill(Whole, {"part": {"share": "none"}})
    assert whole.part.share is None
    assert fill(Whole, plain(whole)) == whole


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"parts": {}}, r"parts is not known; allowed: part$"),
        ({"part": {"cuont": 1}}, r"part\.cuont is not known; allowed: count, share, "),
        ({"part": {"count": "1"}}, r"part\.count is '1'; allowed: a whole number"),
        ({"part": {"count": True}}, r"part\.count is True; allowed: a whole number"),
        ({"part": {"count": 1.0}}, r"part\.count is 1\.0; allowed: a whole number"),
        ({"part": {"count": -1}}, r"part\.count is -1; allowed: 0 or more"),
        ({"part": {"kind": "c"}}, r"part\.kind is 'c'; allowed: a, b"),
        ({"part": {"share": "half"}}, r"part\.share is 'half'; allowed: a number"),
        ({"part": {"names": "x"}}, r"part\.names is 'x'; allowed: a list"),
        ({"part": {"rates": {"a": "x"}}}, r"part\.rates\.a is 'x'; allowed: a number"),
        ({"part": 3}, r"part is 3; allowed: a section"),
    ],
)
def test_a_wrong_name_or_value_is_refused_with_what_is_allowed(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidValueError, match=message) as caught:
        fill(Whole, values)
    assert caught.value.param == caught.value.message.split(" is ")[0]


def test_later_layers_stand_above_earlier_ones_value_by_value() -> None:
    layers = [
        {"part": {"count": 1, "kind": "a"}},
        {"part": {"kind": "b"}},
        read_assignment("part.share=0.25"),
    ]
    assert overlaid(layers) == {"part": {"count": 1, "kind": "b", "share": 0.25}}


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
