"""Retrieval and recognition, on scores that can be counted by hand."""

import pytest
import torch
from torch import Tensor

from bt_model.evaluation.recognition import accuracy
from bt_model.evaluation.retrieval import retrieval


def ranked(*places: int) -> tuple[Tensor, Tensor]:
    """Embeddings of as many pairs, in which caption i finds its video at place places[i] of the order."""
    count = len(places)
    video = torch.eye(count)
    text = torch.zeros(count, count)
    for row, place in enumerate(places):
        others = [column for column in range(count) if column != row]
        order = [*others[:place], row, *others[place:]]
        for rank, column in enumerate(order):
            text[row, column] = count - rank
    return text, video


def test_ranks_are_counted_from_one() -> None:
    found = retrieval(*ranked(0, 0, 1, 3, 11, *[0] * 7))
    assert found.r1 == pytest.approx(100 * 9 / 12)
    assert found.r5 == pytest.approx(100 * 11 / 12)
    assert found.r10 == pytest.approx(100 * 11 / 12)
    assert found.median_rank == 1
    assert found.mean_rank == pytest.approx(1 + (1 + 3 + 11) / 12)


def test_length_of_an_embedding_does_not_matter() -> None:
    text, video = ranked(0, 2, 1)
    assert retrieval(text * 7, video * torch.tensor([[1.0], [2.0], [3.0]])) == retrieval(text, video)


def test_a_tie_counts_every_rank_that_it_stands_for() -> None:
    same = torch.ones(2, 3)
    found = retrieval(same, same)
    assert found.r1 == 50
    assert found.mean_rank == 1.5


def test_accuracy_looks_among_the_nearest_classes() -> None:
    classes = torch.eye(4)
    video = torch.tensor([[4.0, 3, 2, 1], [4, 3, 2, 1], [4, 3, 2, 1], [1, 2, 3, 4]])
    labels = torch.tensor([0, 1, 3, 3])
    assert accuracy(video, classes, labels, 1) == 0.5
    assert accuracy(video, classes, labels, 2) == 0.75
    assert accuracy(video, classes, labels, 4) == 1.0
