"""Which turns make a dialogue."""

from collections.abc import Sequence

import pytest

from bt_model.errors import InvalidValueError
from bt_model.prompt.turns import check_turns
from bt_model.types import Role, Turn


def turns(*roles: Role) -> list[Turn]:
    return [Turn(role, "hi") for role in roles]


@pytest.mark.parametrize(
    "dialogue",
    [
        turns("user"),
        turns("system", "user"),
        turns("user", "assistant", "user"),
        turns("user", "assistant"),
        turns("system", "user", "assistant", "user"),
        turns("assistant", "user"),
        turns("system", "assistant", "user"),
        turns("assistant", "user", "assistant"),
    ],
)
def test_a_dialogue_in_turn_is_taken(dialogue: Sequence[Turn]) -> None:
    check_turns(dialogue)


@pytest.mark.parametrize(
    "dialogue",
    [
        [],
        turns("system"),
        turns("assistant"),
        turns("system", "assistant"),
        turns("user", "user"),
        turns("user", "system", "user"),
        turns("system", "system", "user"),
        turns("user", "assistant", "assistant", "user"),
    ],
)
def test_a_dialogue_out_of_turn_is_refused_with_its_roles(dialogue: Sequence[Turn]) -> None:
    roles = ", ".join(turn.role for turn in dialogue) or "(none)"
    with pytest.raises(InvalidValueError) as caught:
        check_turns(dialogue)
    assert caught.value.message.startswith(f"messages have the roles {roles}; allowed: an optional system")
    assert caught.value.param == "messages"


@pytest.mark.parametrize("text", ["", " \n\t", "\u2003"])
def test_a_turn_without_text_is_refused_by_its_place(text: str) -> None:
    with pytest.raises(InvalidValueError, match=r"messages\[1\]\.content is empty; allowed: text") as caught:
        check_turns([Turn("user", "hi"), Turn("assistant", text), Turn("user", "hi")])
    assert caught.value.param == "messages[1].content"


def test_a_turn_that_shows_a_video_needs_no_text_but_the_last() -> None:
    check_turns([Turn("user", ""), Turn("assistant", "hi"), Turn("user", "hi")])
    with pytest.raises(InvalidValueError, match=r"messages\[2\]\.content is empty"):
        check_turns([Turn("user", ""), Turn("assistant", "hi"), Turn("user", "")])
