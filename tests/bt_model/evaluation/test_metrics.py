"""Retrieval and recognition, on scores that can be counted by hand."""

import pytest
import torch
from torch import Tensor

from bt_model.errors import InvalidValueError
from bt_model.evaluation.recognition import accuracy
from bt_model.evaluation.retrieval import TIE_RULES, TieRule, cosine_scores, found_among, measure_retrieval


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


@pytest.mark.parametrize("ties", TIE_RULES)
def test_ranks_are_counted_from_one(ties: TieRule) -> None:
    found = measure_retrieval(cosine_scores(*ranked(0, 0, 1, 3, 11, *[0] * 7)), ties)
    assert found.recall[1] == pytest.approx(100 * 9 / 12)
    assert found.recall[5] == pytest.approx(100 * 11 / 12)
    assert found.recall[10] == pytest.approx(100 * 11 / 12)
    assert found.median_rank == 1
    assert found.mean_rank == pytest.approx(1 + (1 + 3 + 11) / 12)


def test_length_of_an_embedding_does_not_matter() -> None:
    text, video = ranked(0, 2, 1)
    longer = cosine_scores(text * 7, video * torch.tensor([[1.0], [2.0], [3.0]]))
    torch.testing.assert_close(longer, cosine_scores(text, video))
    assert measure_retrieval(longer) == measure_retrieval(cosine_scores(text, video))


def test_a_tie_counts_every_rank_that_it_stands_for() -> None:
    found = measure_retrieval(torch.ones(2, 2))
    assert found.recall[1] == 50
    assert found.mean_rank == 1.5


# captions whose own video: ties with one other at the top; ties with two behind one; is alone, third
TIED = torch.tensor([[2.0, 2, 1, 0, 0], [9, 5, 5, 5, 1], [3, 2, 1, 0, 0], [0, 0, 0, 1, 0], [0, 0, 0, 0, 1]])


def test_a_tie_that_counts_every_rank_lengthens_the_list_of_ranks() -> None:
    found = measure_retrieval(TIED, "every")
    ranks = [0, 1, 1, 2, 3, 2, 0, 0]
    assert found.recall[1] == pytest.approx(100 * 3 / 8)
    assert found.mean_rank == pytest.approx(1 + sum(ranks) / 8)
    assert found.median_rank == 2


def test_a_tie_that_is_shared_counts_as_if_it_were_broken_at_random() -> None:
    assert found_among(TIED, 1).tolist() == [0.5, 0, 0, 1, 1]
    torch.testing.assert_close(found_among(TIED, 2), torch.tensor([1, 1 / 3, 0, 1, 1]).double())
    found = measure_retrieval(TIED, "shared")
    assert (found.recall[1], found.recall[5]) == (pytest.approx(50), pytest.approx(100))
    assert found.mean_rank == pytest.approx(1 + (0.5 + 2 + 2) / 5)
    assert found.median_rank == 1.5


def test_scores_that_are_no_numbers_find_nothing() -> None:
    assert found_among(torch.full((2, 2), torch.nan), 1).tolist() == [0, 0]


def test_as_many_videos_as_captions_are_needed() -> None:
    with pytest.raises(InvalidValueError, match="n captions by n videos"):
        measure_retrieval(torch.ones(2, 3))


def test_accuracy_looks_among_the_nearest_classes() -> None:
    classes = torch.eye(4)
    video = torch.tensor([[4.0, 3, 2, 1], [4, 3, 2, 1], [4, 3, 2, 1], [1, 2, 3, 4]])
    labels = torch.tensor([0, 1, 3, 3])
    assert accuracy(video, classes, labels, 1) == 0.5
    assert accuracy(video, classes, labels, 2) == 0.75
    assert accuracy(video, classes, labels, 4) == 1.0
