"""What runs on a GPU machine imports only what such a machine has."""

import subprocess
import sys

import pytest

MISSING = ("av", "decord", "sentencepiece", "tokenizers", "fastapi", "rich")  # settings need pydantic
BLOCKED = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {missing!r}:
            raise ImportError(name + " is not there")
sys.meta_path.insert(0, Blocker())
import {module}
"""


@pytest.mark.parametrize("module", ["benchmarks.training", "benchmarks.gpu"])
def test_it_is_imported_without_the_rest(module: str) -> None:
    code = BLOCKED.format(missing=MISSING, module=module)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
