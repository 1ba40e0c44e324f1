"""Claims on made-up answers: each holds where it should, and fails where it should."""

import re
from pathlib import Path

import numpy as np
import pytest

from bt_model.errors import UnknownNameError
from lab.evidence.bench import StudySize
from lab.evidence.claims import Claim, claims, difference, kind_tests
from lab.evidence.page import TITLES, write_page
from lab.evidence.plots import draw_all
from lab.evidence.results import Cost, Result
from lab.evidence.rows import ROWS, in_table, row
from lab.evidence.study import Study, read_study, result_path
from lab.shapes.events import REVERSIBLE
from lab.statistics import Answers

COST = Cost(num_trainable=1234, step_seconds=0.5, kept_mebibytes=100.0, num_tokens=65)
SCENES = 120


def told(share: float, seed: int, count: int = SCENES) -> Answers:
    return (np.random.default_rng(seed).random((count, 2)) < share).astype(float)


def blind(count: int = SCENES) -> Answers:
    """One answer for a clip and its twin: one of them is right."""
    return np.tile([1.0, 0.0], (count, 1))


def made_up(*, twins: float | None, static: float, seed: int, count: int = SCENES) -> Result:
    """A model that tells so many twins apart; None is blind to order."""
    answers: dict[str, Answers] = {}
    for number, kind in enumerate(REVERSIBLE):
        for measure in ("twins", "first"):
            own = blind(count) if twins is None else told(twins, 100 * seed + number, count)
            answers[f"{measure}/{kind}"] = own
        answers[f"shuffled/{kind}"] = answers[f"one picture/{kind}"] = told(0.5, 7 + seed + number, count)
    for kind in ("direction", "order"):
        answers[f"chat/{kind}"] = blind() if twins is None else told(twins, 50 + seed)
        if twins is None:
            answers[f"pictures/{kind}"] = told(0.95, 60)
    for kind in ("shape", "colour"):
        answers[f"static/{kind}"] = told(static, 3, count)
        answers[f"chat static/{kind}"] = told(static, 5)
    return Result(answers, COST)


def study(*, twins: float, static: float = 0.9, vtc: float = 0.6) -> Study:
    results = {
        "clip": [made_up(twins=None, static=0.9, seed=0, count=2 * SCENES)],
        "bt-adapter": [made_up(twins=twins, static=static, seed=s, count=2 * SCENES) for s in range(5)],
        "vtc": [made_up(twins=vtc, static=0.9, seed=s) for s in range(5)],
        "captioned": [made_up(twins=twins, static=static, seed=s) for s in range(5)],
    }
    return Study(StudySize(), range(5), results)


def held(some: Study) -> list[bool]:
    return [claim.holds for claim in claims(some)]


def test_a_model_that_sees_time_and_keeps_the_rest_meets_every_claim() -> None:
    assert held(study(twins=0.9)) == [True] * len(claims(study(twins=0.9)))


def test_a_model_at_chance_meets_none_about_time() -> None:
    time, _, _, _, plug_in, losses, recipe, plugged = claims(study(twins=0.5, vtc=0.7))
    assert not any(claim.holds for claim in (time, plug_in, losses, recipe, plugged))


def test_static_answers_that_suffer_are_told() -> None:
    found = claims(study(twins=0.9, static=0.8))
    assert [claim.holds for claim in found] == [True, True, False, False, True, True, False, True]


def test_static_answers_that_are_better_are_not_equal_but_no_worse() -> None:
    equal, no_worse = claims(study(twins=0.9, static=0.99))[2:4]
    assert not equal.holds
    assert no_worse.holds
    assert "better, so nothing is lost" in equal.found


def test_shuffled_frames_that_are_told_apart_are_told() -> None:
    some = study(twins=0.9)
    leaking = [
        Result({**r.answers, **{f"shuffled/{k}": told(0.9, 1) for k in REVERSIBLE}}, COST)
        for r in some.results["bt-adapter"]
    ]
    controls = claims(Study(some.size, some.seeds, {**some.results, "bt-adapter": leaking}))[1]
    assert not controls.holds


def test_every_kind_is_tested_against_clip() -> None:
    tests = {test.kind: test for test in kind_tests(study(twins=0.9))}
    assert set(tests) == set(REVERSIBLE)
    assert all(test.clip.value == 0.5 < test.branch.low and test.p_value < 1e-6 for test in tests.values())


def test_rows_are_compared_on_the_scenes_that_both_were_asked_about() -> None:
    some = study(twins=0.9)
    same = difference(some.results["bt-adapter"], some.results["bt-adapter"], "twins")
    assert same.value == same.low == same.high == 0.0
    assert difference(some.results["bt-adapter"], some.results["vtc"], "twins").count == 2 * SCENES * len(
        REVERSIBLE
    )


def test_a_result_is_read_as_it_was_written(tmp_path: Path) -> None:
    result = made_up(twins=0.7, static=0.9, seed=3)
    result.save(tmp_path / "a.npz")
    again = Result.load(tmp_path / "a.npz")
    assert again.cost == result.cost
    assert set(again.answers) == set(result.answers)
    assert all(np.array_equal(again.answers[name], result.answers[name]) for name in result.answers)
    assert list(tmp_path.iterdir()) == [tmp_path / "a.npz"]


def test_the_page_shows_every_row_that_was_run_and_says_what_does_not_hold(tmp_path: Path) -> None:
    some = study(twins=0.9, static=0.8)
    for name, results in some.results.items():
        for seed, result in enumerate(results):
            result.save(result_path(tmp_path, row(name), seed))
    read = read_study(tmp_path, ROWS, range(5), StudySize())
    assert {name: len(results) for name, results in read.results.items()} == {
        name: len(results) for name, results in some.results.items()
    }
    write_page(tmp_path / "page.md", read, draw_all(tmp_path / "evidence", read))
    text = (tmp_path / "page.md").read_text()
    assert all(title in text for title in TITLES.values())
    assert text.count("| **no** |") == sum(not claim.holds for claim in claims(read))
    assert "40.9 / 35.6" in text
    assert re.search(r"CLIP's in\s+brackets:\s+\w+ 0\.\d{3} \(0\.\d{3}\), \w+ 0\.", text)
    assert "| question | clip | bt-adapter | captioned | pictures with cues |" in text
    assert all((tmp_path / "evidence" / name).stat().st_size > 1000 for name in ("layers.png", "masks.png"))


def test_few_seeds_are_told_that_a_sign_test_cannot_hold() -> None:
    some = study(twins=0.9)
    three = Study(some.size, range(3), {name: found[:3] for name, found in some.results.items()})
    losses = next(claim for claim in claims(three) if claim.text.startswith("MBTA"))
    assert "(3 seeds cannot give less than 0.125)" in losses.found
    assert not losses.holds


def test_a_claim_is_told_with_its_test_and_its_figure() -> None:
    for claim in claims(study(twins=0.9)):
        assert isinstance(claim, Claim)
        assert claim.test
        assert any(character.isdigit() for character in claim.found)


def test_rows_have_names_of_their_own() -> None:
    names = [each.name for each in ROWS]
    assert len(set(names)) == len(names)


def test_every_table_of_the_page_has_rows() -> None:
    assert all(in_table(table) for table in TITLES)


def test_an_unknown_row_is_refused_by_name() -> None:
    with pytest.raises(UnknownNameError, match=r"row is 'vtr'; allowed: clip, bt-adapter"):
        row("vtr")
