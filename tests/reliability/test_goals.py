"""Every goal in the size of seconds; `make reliability` measures them in full."""

import pytest

from tests.reliability.goal import Goal, NotHereError, all_goals


@pytest.mark.parametrize("goal", all_goals(), ids=lambda goal: goal.name)
def test_goal(goal: Goal) -> None:
    try:
        figure = goal.measure(False)
    except NotHereError as error:
        pytest.skip(str(error))
    assert figure.is_met is not goal.is_control, f"{goal.bar}: {figure.text}"
