"""Accuracy of the embedded model on scenes with held-out combinations of colour, shape and motion.

B clips, T frames, P patches, D width.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING

import torch

from bt_model.training.objectives.answers import exact_answers
from lab.dialogues import dialogue
from lab.shapes.questions import STATIC, TEMPORAL, ClipQuestion, questions
from lab.shapes.scene import Scene
from lab.statistics import Share, share
from lab.trunk_cache import states_by_number

if TYPE_CHECKING:
    from torch import Tensor

    from bt_model.training.data.spelling import Speller
    from bt_model.training.data.tokens import TokenBatch
    from bt_model.vision.encoder import ChatFeatures, TemporalEncoder
    from lab.chat_model import ChatModel
    from lab.clips import CachedClips

BATCH = 32
Pool = Callable[["ChatFeatures"], "Tensor"]  # -> (B, K, D)


@dataclass(frozen=True, slots=True)
class AnswerRecord:
    """Right or wrong by question kind and scene; the answers for both twins are under their common scene."""

    kinds: dict[str, dict[str, list[bool]]] = field(default_factory=dict[str, dict[str, list[bool]]])

    def add(self, kind: str, scene: Scene, right: bool) -> None:
        """Note one answer."""
        self.kinds.setdefault(kind, {}).setdefault(scene.key, []).append(right)

    def shares(self) -> dict[str, Share]:
        """Exact answers by kind, and `static` for all static kinds together."""
        known = {kind: share(scenes) for kind, scenes in self.kinds.items()}
        static: dict[str, list[bool]] = {}
        for kind in STATIC:
            for key, right in self.kinds.get(kind, {}).items():
                static.setdefault(key, []).extend(right)
        return {**known, "static": share(static)} if static else known

    def twins(self, kind: str) -> Share:
        """Scenes whose both time directions were answered right; an order-blind model gets none."""
        return share({key: [all(right)] for key, right in self.kinds[kind].items()})


@dataclass(frozen=True, slots=True)
class ChatTest:
    """A chat model that reads `num_video` tokens of a clip, and the questions for it."""

    chat: "ChatModel"
    speller: "Speller"
    num_video: int
    seed: int
    kinds: Collection[str] = (*TEMPORAL, *STATIC)

    def questions(self, scene: Scene) -> list[ClipQuestion]:
        """One question of each kind, in the same words for a scene and its twin."""
        every = questions(scene, Random(f"{self.seed} {scene.key}"))
        return [question for question in every if question.kind in self.kinds]

    def batch(self, listed: Sequence[ClipQuestion]) -> "TokenBatch":
        """A question about each clip, as a first turn, with its answer."""
        return self.speller.batch([dialogue([question]) for question in listed], self.num_video)


@dataclass(frozen=True, slots=True)
class EncodedClips:
    """Scenes with the video tokens of their clips, and of their twins' clips, each (B, K, D)."""

    scenes: Sequence[Scene]
    clips: "Tensor"
    twins: "Tensor"


def encode_clips(encoder: "TemporalEncoder", pool: Pool, clips: "CachedClips") -> Iterator[EncodedClips]:
    """All clips and their twins as a chat model reads them, batch by batch."""
    for pair in clips.batches(BATCH, encoder.chat_reads):
        with torch.inference_mode():
            own, twins = (pool(encoder.chat_from_trunk(states_by_number(batch.clips))) for batch in pair)
        yield EncodedClips(pair[0].scenes, own, twins)


def answer_questions(encoded: Iterable[EncodedClips], test: ChatTest) -> AnswerRecord:
    """Ask every question about every clip and its twin, each as a first turn."""
    record = AnswerRecord()
    for batch in encoded:
        _answer(batch.clips, test, batch.scenes, record)
        _answer(batch.twins, test, [scene.twin() for scene in batch.scenes], record)
    return record


def _answer(video: "Tensor", test: ChatTest, listed: Sequence[Scene], record: AnswerRecord) -> None:
    every, chat = [test.questions(scene) for scene in listed], test.chat
    for turn in range(max(map(len, every))):
        rows = [row for row, few in enumerate(every) if turn < len(few)]
        batch = test.batch([every[row][turn] for row in rows])
        right = exact_answers(chat.lm, chat.projector, video[rows], batch).tolist()
        for row, is_right in zip(rows, right, strict=True):
            record.add(every[row][turn].kind, listed[row], is_right)
