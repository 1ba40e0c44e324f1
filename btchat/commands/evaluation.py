"""`btchat eval`: metrics of embeddings, as the published evaluations compute them."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

if TYPE_CHECKING:
    from torch import Tensor

Files = Annotated[tuple[Path, ...], Parameter(consume_multiple=True)]


def retrieval(files: Files, /, *, json: bool = False) -> None:
    """Print R@k, median and mean rank of text-to-video retrieval.

    Once with every rank of a tie, as published, and once with ties that share (docs/evaluation.md).

    Args:
        files: safetensors files that hold `scores` (captions by videos, pairs on the diagonal), or `text` and
            `video`, a pair a row
        json: for machines
    """
    from json import dumps

    from bt_model.evaluation.retrieval import TIE_RULES, cosine_scores, measure_retrieval

    tensors = _read(files)
    if "scores" in tensors:
        scores = tensors["scores"]
    else:
        text, video = _named(tensors, "text", "video")
        scores = cosine_scores(text.float(), video.float())
    found = {ties: measure_retrieval(scores, ties).figures() for ties in TIE_RULES}
    print(dumps(found, indent=2) if json else _table(found))


def recognition(files: Files, /) -> None:
    """Print top-1 and top-5 accuracy of zero-shot recognition.

    Args:
        files: safetensors files that hold `video` (a clip a row), `classes` (a class a row) and `labels` (the
            number of each clip's class)
    """
    from bt_model.evaluation.recognition import accuracy

    video, classes, labels = _named(_read(files), "video", "classes", "labels")
    for most in (1, 5):
        share = accuracy(video.float(), classes.float(), labels, min(most, len(classes)))
        print(f"top-{most}  {100 * share:6.2f} %")


def _read(files: tuple[Path, ...]) -> "Mapping[str, Tensor]":
    from bt_model.checkpoints.weights import open_weights

    return {name: tensor for file in files for name, tensor in open_weights(file).items()}


def _named(tensors: "Mapping[str, Tensor]", *names: str) -> "list[Tensor]":
    from bt_model.errors import require

    there = ", ".join(tensors)
    for name in names:
        require(name in tensors, "files", there, f"files that hold {', '.join(names)}")
    return [tensors[name] for name in names]


def _table(found: Mapping[str, Mapping[str, float]]) -> str:
    names = next(iter(found.values()))
    head = "".join([f"{'ties':8}", *(f"{name:>8}" for name in names)])
    rows = [
        "".join([f"{ties:8}", *(f"{value:8.2f}" for value in figures.values())])
        for ties, figures in found.items()
    ]
    return "\n".join([head, *rows])
