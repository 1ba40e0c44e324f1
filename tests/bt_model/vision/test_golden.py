import json
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from tests.parity import Job, jobs, main

GOLDEN = Path(__file__).parents[4] / "shared" / "golden"
JOBS = jobs(GOLDEN) if GOLDEN.is_dir() else []

needs_golden = pytest.mark.skipif(not JOBS, reason="golden data ../shared/golden not found")


@needs_golden
@pytest.mark.parametrize("job", JOBS, ids=[job.id for job in JOBS])
def test_our_numbers_are_those_of_the_published_implementation(job: Job) -> None:
    outcome = job.run()
    if outcome.skipped:
        pytest.skip(outcome.skipped)
    assert outcome.verdict == "ok", str(outcome)


def copy_case(folder: Path, name: str) -> None:
    """A folder of golden data with one case."""
    index = json.loads((GOLDEN / "cases.json").read_text())
    index["cases"] = [record for record in index["cases"] if record["id"] == name]
    (folder / "cases.json").write_text(json.dumps(index))
    shutil.copyfile(GOLDEN / f"{name}.safetensors", folder / f"{name}.safetensors")


@needs_golden
def test_a_passing_folder_ends_with_the_counts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy_case(tmp_path, "clip_text")
    assert main([str(tmp_path)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "1 passed, 0 failed, 0 skipped"


@needs_golden
def test_a_wrong_number_fails_with_the_name_of_its_tensor(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy_case(tmp_path, "retrieval_norm_T1")
    path = tmp_path / "retrieval_norm_T1.safetensors"
    tensors = load_file(path)
    tensors["expect.branch_out.2"][1, 3, 4] += 0.01
    save_file(tensors, path)
    assert main([str(tmp_path)]) == 1
    assert "FAIL branch_out.2" in capsys.readouterr().out


@needs_golden
def test_a_tensor_that_nothing_computes_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy_case(tmp_path, "clip_text")
    path = tmp_path / "clip_text.safetensors"
    tensors = load_file(path)
    save_file(tensors | {"expect.extra": tensors["expect.text_embed"].clone()}, path)
    assert main([str(tmp_path)]) == 1
    assert "FAIL extra inf" in capsys.readouterr().out


@needs_golden
def test_an_unknown_kind_fails(tmp_path: Path) -> None:
    copy_case(tmp_path, "clip_text")
    path = tmp_path / "cases.json"
    path.write_text(path.read_text().replace('"kind": "clip_text"', '"kind": "novel"'))
    assert main([str(tmp_path)]) == 1


def test_a_folder_without_cases_is_a_usage_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path)]) == 2
    assert "usage" in capsys.readouterr().err
