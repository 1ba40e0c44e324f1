"""What the run of the embedded model says of its own cost."""

from pathlib import Path

from lab.embedded import metered


def test_the_cost_of_work_without_steps_adds_up_over_sessions(tmp_path: Path) -> None:
    costs = list[float]()
    for _ in range(2):
        with metered(tmp_path / "clips.cost") as cost:
            sum(range(200_000))
        costs.append(cost.cpu_seconds)
    assert costs[1] > costs[0] > 0
