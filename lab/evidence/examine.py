"""Every measure of a trained row. n scenes, each asked twice: the clip and its twin."""

from typing import TYPE_CHECKING

import numpy as np
import torch

from bt_model.vision.pool import pooling
from lab.evaluate import BATCH, ChatTest, EncodedClips, answer_questions, encode_clips
from lab.evidence.bench import Bench
from lab.evidence.choices import chat_choices
from lab.evidence.fit import STATIC_KINDS, TrainedRow
from lab.evidence.results import Cost, Result
from lab.measures import embed_clips, first_hits, static_choices, twin_choices
from lab.pictures import pictures
from lab.shapes.questions import TEMPORAL

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from lab.clips import CachedClips
    from lab.shapes.scene import Scene
    from lab.statistics import Answers

SEED = 1  # of the test's wordings


def examine(trained: TrainedRow, bench: Bench, *, is_headline: bool, with_controls: bool) -> Result:
    """Ask everything that the row can answer.

    A pre-trained row is asked as an encoder and through the frozen image chat model; a tuned one through its
    own. With controls, frames are shuffled, and one picture is shown: a model that still tells twins apart
    then knows them by something other than their order.
    """
    answers: dict[str, Answers] = {}
    if trained.row.training != "instruct":
        answers |= _as_encoder(trained, bench, bench.headline if is_headline else bench.test)
        if with_controls:
            for name, change in (("shuffled", _shuffler()), ("one picture", _one_picture)):
                answers |= _control(name, trained, bench, change)
    if trained.row.has_chat_answers and trained.encoder.has_chat:
        answers |= _as_chat(trained, bench)
    if trained.row.training == "none":
        answers |= _as_pictures(trained, bench)
    return Result(answers, _cost(trained))


def _as_encoder(trained: TrainedRow, bench: Bench, test: "CachedClips") -> "dict[str, Answers]":
    text = bench.model.text
    embeddings = embed_clips(trained.encoder, text, test, SEED)
    measures = {
        "twins": twin_choices(embeddings, test.scenes),
        "first": first_hits(embeddings, test.scenes),
        "static": static_choices(embeddings, text, test.scenes),
    }
    return {f"{name}/{kind}": each for name, kinds in measures.items() for kind, each in kinds.items()}


def _control(
    name: str, trained: TrainedRow, bench: Bench, change: "Callable[[list[Tensor]], list[Tensor]]"
) -> "dict[str, Answers]":
    embeddings = embed_clips(trained.encoder, bench.model.text, bench.test, SEED, change)
    return {f"{name}/{kind}": each for kind, each in twin_choices(embeddings, bench.test.scenes).items()}


def _shuffler() -> "Callable[[list[Tensor]], list[Tensor]]":
    """Every clip's frames in an order of its own."""
    generator = torch.Generator().manual_seed(SEED)

    def shuffled(states: "list[Tensor]") -> "list[Tensor]":
        order = torch.rand(states[0].shape[:2], generator=generator).argsort(dim=1)
        rows = torch.arange(len(order))[:, None]
        return [x[rows, order] for x in states]

    return shuffled


def _one_picture(states: "list[Tensor]") -> "list[Tensor]":
    """The mean of the two middle frames, equal for a clip and its twin, instead of every frame."""
    middle = states[0].shape[1] // 2
    return [x[:, middle - 1 : middle + 1].mean(dim=1, keepdim=True).expand_as(x) for x in states]


def _as_chat(trained: TrainedRow, bench: Bench) -> "dict[str, Answers]":
    """Answers about order as choices between twins, static ones word for word."""
    encoder, pool = trained.encoder, pooling(trained.row.pooling).pool
    encoded = list(encode_clips(encoder, pool, bench.test))
    chosen = chat_choices(encoded, _chat_test(trained, bench, TEMPORAL))
    record = answer_questions(encoded, _chat_test(trained, bench, STATIC_KINDS))
    exact = {kind: np.array(list(scenes.values()), float) for kind, scenes in record.kinds.items()}
    return {f"chat/{kind}": each for kind, each in chosen.items()} | {
        f"chat static/{kind}": each for kind, each in exact.items()
    }


def _chat_test(trained: TrainedRow, bench: Bench, kinds: "Sequence[str]") -> ChatTest:
    return ChatTest(trained.chat, bench.model.speller, trained.num_video, SEED, kinds)


def _as_pictures(trained: TrainedRow, bench: Bench) -> "dict[str, Answers]":
    """The same choices between twins where single pictures show them by cues: what the chat model knows."""
    encoder, pool = trained.encoder, pooling(trained.row.pooling).pool
    side = encoder.tower.config.image_size

    @torch.inference_mode()
    def tokens(drawn: "Sequence[Scene]") -> "Tensor":
        return pool(encoder.chat(pictures(drawn, side)[:, None]))

    scenes = bench.test.scenes
    batches = [scenes[first : first + BATCH] for first in range(0, len(scenes), BATCH)]
    encoded = (EncodedClips(some, tokens(some), tokens([scene.twin() for scene in some])) for some in batches)
    chosen = chat_choices(encoded, _chat_test(trained, bench, TEMPORAL))
    return {f"pictures/{kind}": each for kind, each in chosen.items()}


def _cost(trained: TrainedRow) -> Cost:
    seconds = trained.cost.cpu_seconds / trained.num_steps if trained.num_steps else 0.0
    return Cost(trained.num_trainable, seconds, trained.activation_bytes / 2**20, trained.num_video)
