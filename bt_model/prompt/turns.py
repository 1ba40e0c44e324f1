"""Which turns make a dialogue."""

from collections.abc import Sequence
from itertools import pairwise

from bt_model.errors import InvalidValueError
from bt_model.types import Turn


def check_turns(turns: Sequence[Turn]) -> None:
    """A dialogue is an optional system turn, then alternating user and assistant, with a user's among them.

    A first turn of the assistant is a greeting, as chat pages show one before anybody asks; a last one is an
    answer that has begun and goes on. A user's turn before the last may do without a text: it shows a video.

    Raises:
        InvalidValueError: another order, no turn, or another turn without text.
    """
    for number, turn in enumerate(turns):
        if not turn.text.strip() and (turn.role != "user" or number == len(turns) - 1):
            param = f"messages[{number}].content"
            text = f"{param} is empty; allowed: text with at least one visible character"
            raise InvalidValueError(text, param=param)
    roles = [turn.role for turn in turns]
    spoken = roles[1:] if roles[:1] == ["system"] else roles
    in_turn = "user" in spoken and all(a != b for a, b in pairwise(spoken))
    if not in_turn or "system" in spoken:
        raise InvalidValueError(
            f"messages have the roles {', '.join(roles) or '(none)'}; allowed: an optional system message, "
            "then user and assistant in turn, with a message of the user among them",
            param="messages",
        )
