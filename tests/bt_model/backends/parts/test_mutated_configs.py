"""No config.json that is accepted is computed as something else."""

from itertools import islice
from pathlib import Path

from tests.bt_model.backends.parts.mutated_configs import TOLERANCE, mutants


def test_what_is_accepted_gives_transformers_logits(tmp_path: Path) -> None:
    found = list(islice(mutants(0, tmp_path), 200))
    accepted = [each for each in found if each.difference is not None]
    assert len(accepted) > 10
    assert not [each for each in accepted if not (each.difference or 0) < TOLERANCE]
