"""Losses against their formulas by loops (docs/published-models.md, "Pre-training losses")."""

import pytest
import torch
from torch import Tensor

from bt_model.training.objectives.contrastive import TEMPERATURE, contrastive, token_alignment

B, E = 5, 8


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def cosine(a: Tensor, b: Tensor) -> Tensor:
    return a @ b / (a.norm() * b.norm())


def nce(a: Tensor, b: Tensor, group: list[int]) -> Tensor:
    """Mean over rows of a of the mean negative log probability of its matches among rows of b."""
    rows = list[Tensor]()
    for m in range(len(a)):
        scores = torch.stack([cosine(a[m], b[n]) / TEMPERATURE for n in range(len(b))])
        chances = scores - torch.logsumexp(scores, dim=0)
        rows.append(-torch.stack([chances[n] for n in range(len(b)) if group[n] == group[m]]).mean())
    return torch.stack(rows).mean()


@pytest.mark.parametrize("group", [[0, 1, 2, 3, 4], [0, 1, 0, 2, 1], [0, 0, 0, 0, 0]])
def test_contrastive_equals_its_formula_in_both_directions(group: list[int]) -> None:
    a, b = noise(B, E), noise(B, E, seed=1)
    expected = nce(a, b, group) + nce(b, a, group)
    torch.testing.assert_close(contrastive(a, b, torch.tensor(group)), expected)


def test_without_groups_every_row_matches_its_own_alone() -> None:
    a, b = noise(B, E), noise(B, E, seed=1)
    assert torch.equal(contrastive(a, b), contrastive(a, b, torch.arange(B)))


def test_contrastive_does_not_see_lengths() -> None:
    a, b = noise(B, E), noise(B, E, seed=1)
    torch.testing.assert_close(contrastive(7 * a, b), contrastive(a, 0.1 * b))


def test_a_zero_vector_has_a_finite_loss() -> None:
    assert contrastive(torch.zeros(B, E), noise(B, E)).isfinite()


def test_token_alignment_is_the_mean_squared_distance_of_unit_vectors() -> None:
    student, teacher = noise(2, 3, 4, E), noise(2, 3, 4, E, seed=1)
    pairs = zip(student.flatten(0, 2), teacher.flatten(0, 2), strict=True)
    expected = torch.stack([((s / s.norm() - t / t.norm()) ** 2).sum() for s, t in pairs]).mean()
    torch.testing.assert_close(token_alignment(student, teacher), expected)
