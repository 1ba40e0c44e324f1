"""Every goal in the size of seconds; `make reliability` measures them in full."""

import pytest

from tests.reliability.goal import Goal, NotHereError, all_goals


@pytest.mark.parametrize(
    "goal", [goal for goal in all_goals() if not goal.is_long], ids=lambda goal: goal.name
)
def test_goal(goal: Goal) -> None:
    try:
        figure = goal.measure(False)
    except NotHereError as error:
        pytest.skip(str(error))
    assert figure.is_met is not goal.is_control, f"{goal.bar}: {figure.text}"
