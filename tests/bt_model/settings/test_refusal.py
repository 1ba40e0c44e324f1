"""What is wrong with settings, in one line with what is allowed."""

from dataclasses import dataclass
from typing import Any, Literal, Self

import pytest
from pydantic import Field, SecretStr, model_validator

from bt_model.errors import InvalidValueError, require
from bt_model.settings.refusal import allowed_values, hint_of, validated
from bt_model.settings.section import Count, Section, Share


@dataclass(frozen=True, slots=True)
class Inner:
    """A section that is a dataclass, as architectures are."""

    width: int = 1

    def __post_init__(self) -> None:
        require(self.width > 0, "width", self.width, "1 or more")


class Part(Section):
    """A section."""

    count: int = Field(default=1, ge=0, le=9)
    size: Count | None = None
    share: Share = 0.5
    rate: float = Field(default=0.5, gt=0, lt=1)
    kind: Literal["a", "b"] = "a"
    names: tuple[str, ...] = Field(default=("x",), min_length=1)
    rates: dict[str, float] = Field(default_factory=dict[str, float])
    on: bool = False
    inner: Inner = Inner()
    key: SecretStr = SecretStr("")

    @model_validator(mode="after")
    def _check(self) -> Self:
        require(self.count != self.size, "count", self.count, f"another than size, {self.size}")
        return self


class Whole(Section):
    """Settings."""

    part: Part = Part()

    @model_validator(mode="after")
    def _check(self) -> Self:
        require(self.part.kind == "a" or self.part.on, "part.on", False, "true for part.kind 'b'")
        return self


def refused(values: dict[str, Any]) -> InvalidValueError:
    with pytest.raises(InvalidValueError) as caught:
        validated(Whole, values)
    return caught.value


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"parts": {}}, "parts is not known; allowed: part"),
        (
            {"part": {"cuont": 1}},
            "part.cuont is not known; allowed: count, size, share, rate, ",
        ),
        ({"part": {"inner": {"x": 1}}}, "part.inner.x is not known; allowed: width"),
        ({"part": {"count": "1"}}, "part.count is '1'; allowed: a whole number, 0 to 9"),
        ({"part": {"count": True}}, "part.count is True; allowed: a whole number, 0 to 9"),
        ({"part": {"count": 1.0}}, "part.count is 1.0; allowed: a whole number, 0 to 9"),
        ({"part": {"count": -1}}, "part.count is -1; allowed: a whole number, 0 to 9"),
        ({"part": {"size": 0}}, "part.size is 0; allowed: a whole number, 1 or more"),
        ({"part": {"share": "half"}}, "part.share is 'half'; allowed: a number, 0 to 1"),
        ({"part": {"rate": 1}}, "part.rate is 1; allowed: a number, above 0, below 1"),
        ({"part": {"kind": "c"}}, "part.kind is 'c'; allowed: a, b"),
        ({"part": {"names": "x"}}, "part.names is 'x'; allowed: a list, at least 1"),
        ({"part": {"names": []}}, "part.names is []; allowed: a list, at least 1"),
        ({"part": {"names": ["x", 1]}}, "part.names.1 is 1; allowed: a string"),
        ({"part": {"rates": {"a": "x"}}}, "part.rates.a is 'x'; allowed: a number"),
        ({"part": {"inner": {"width": "1"}}}, "part.inner.width is '1'; allowed: a whole number"),
        ({"part": {"inner": {"width": 0}}}, "part.inner.width is 0; allowed: 1 or more"),
        ({"part": {"inner": 3}}, "part.inner is 3; allowed: a section"),
        ({"part": 3}, "part is 3; allowed: a section"),
        ({"part": {"count": 2, "size": 2}}, "part.count is 2; allowed: another than size, 2"),
        ({"part": {"kind": "b"}}, "part.on is False; allowed: true for part.kind 'b'"),
    ],
)
def test_a_wrong_name_or_value_is_refused_with_what_is_allowed(values: dict[str, Any], message: str) -> None:
    error = refused(values)
    assert error.message.startswith(message)
    assert error.param == error.message.split(" is ")[0]


def test_a_value_that_may_be_missing_is_told_with_the_word_for_it() -> None:
    with pytest.raises(InvalidValueError, match=r"allowed: a whole number, 1 or more, or null$"):
        validated(Whole, {"part": {"size": "x"}}, nothing="null")


def test_a_long_value_is_cut_and_a_secret_is_not_shown() -> None:
    assert len(refused({"part": {"kind": "c" * 999}}).message) < 150
    assert refused({"part": {"key": 12345}}).message == "part.key is ***; allowed: a string"


def test_every_kind_of_value_has_words() -> None:
    words = {name: allowed_values(hint_of(field)) for name, field in Part.model_fields.items()}
    assert words == {
        "count": "a whole number, 0 to 9", "size": "a whole number, 1 or more", "share": "a number, 0 to 1",
        "rate": "a number, above 0, below 1", "kind": "a, b", "names": "a list, at least 1",
        "rates": "a table of names and values", "on": "true or false", "inner": "a section",
        "key": "a string",
    }  # fmt: skip
