import json
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from tests.golden import ALL, SMALL
from tests.parity import Job, jobs, main

JOBS = {job.id: job for folder in (SMALL, ALL) if folder.is_dir() for job in jobs(folder)}


@pytest.mark.parametrize("job", JOBS.values(), ids=JOBS.keys())
def test_our_numbers_are_those_of_the_published_implementation(job: Job) -> None:
    outcome = job.run()
    if outcome.skipped:
        pytest.skip(outcome.skipped)
    assert outcome.verdict == "ok", str(outcome)


@pytest.mark.skipif(not ALL.is_dir(), reason="28 golden cases of 0.2 to 1.5 MB: ../shared/golden not found")
def test_the_small_cases_are_some_of_all() -> None:
    index = json.loads((ALL / "cases.json").read_text())
    named = {record["id"]: record for record in index["cases"]}
    for record in json.loads((SMALL / "cases.json").read_text())["cases"]:
        assert record == named[record["id"]]
        assert (SMALL / record["file"]).read_bytes() == (ALL / record["file"]).read_bytes()


def copy_case(folder: Path, name: str) -> None:
    """A folder of golden data with one case."""
    index = json.loads((SMALL / "cases.json").read_text())
    index["cases"] = [record for record in index["cases"] if record["id"] == name]
    (folder / "cases.json").write_text(json.dumps(index))
    shutil.copyfile(SMALL / f"{name}.safetensors", folder / f"{name}.safetensors")


def test_a_passing_folder_ends_with_the_counts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy_case(tmp_path, "clip_text")
    assert main([str(tmp_path)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "1 passed, 0 failed, 0 skipped"


def test_a_wrong_number_fails_with_the_name_of_its_tensor(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy_case(tmp_path, "clip_text")
    path = tmp_path / "clip_text.safetensors"
    tensors = load_file(path)
    tensors["expect.text_tokens"][1, 3, 4] += 0.01
    save_file(tensors, path)
    assert main([str(tmp_path)]) == 1
    assert "FAIL text_tokens" in capsys.readouterr().out


def test_a_tensor_that_nothing_computes_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy_case(tmp_path, "clip_text")
    path = tmp_path / "clip_text.safetensors"
    tensors = load_file(path)
    save_file(tensors | {"expect.extra": tensors["expect.text_embed"].clone()}, path)
    assert main([str(tmp_path)]) == 1
    assert "FAIL extra inf" in capsys.readouterr().out


def test_an_unknown_kind_fails(tmp_path: Path) -> None:
    copy_case(tmp_path, "clip_text")
    path = tmp_path / "cases.json"
    path.write_text(path.read_text().replace('"kind": "clip_text"', '"kind": "novel"'))
    assert main([str(tmp_path)]) == 1


def test_a_folder_without_cases_is_a_usage_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path)]) == 2
    assert "usage" in capsys.readouterr().err
