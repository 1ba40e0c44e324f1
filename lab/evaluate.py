"""What the embedded model can do, on scenes of colour x shape x motion combinations that training never saw.

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
    from lab.chat_model import ChatModel
    from lab.clips import CachedClips

BATCH = 32
VideoTokensOf = Callable[[Sequence["Tensor"]], "Tensor"]  # hidden states -> (B, K, D)


@dataclass(frozen=True, slots=True)
class Answered:
    """Right or wrong by question kind and scene; both twins' answers stand under their common scene."""

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
class Asker:
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
class Shown:
    """Scenes and what a chat model reads of their clips, and of their twins' clips, each (B, K, D)."""

    scenes: Sequence[Scene]
    clips: "Tensor"
    twins: "Tensor"


def show(tokens_of: VideoTokensOf, reads: range, clips: "CachedClips") -> Iterator[Shown]:
    """All clips, batch by batch; `tokens_of` makes video tokens of the hidden states `reads`."""
    for begin in range(0, len(clips.scenes), BATCH):
        own = clips.batch(range(begin, min(begin + BATCH, len(clips.scenes))), reads)
        with torch.inference_mode():
            tokens, twins = (tokens_of(states_by_number(x.clips)) for x in (own, clips.twins(own)))
        yield Shown(own.scenes, tokens, twins)


def answer_questions(shown: Iterable[Shown], asker: Asker) -> Answered:
    """Ask every question about every clip and its twin, each as a first turn."""
    answered = Answered()
    for batch in shown:
        _answer(batch.clips, asker, batch.scenes, answered)
        _answer(batch.twins, asker, [scene.twin() for scene in batch.scenes], answered)
    return answered


def _answer(video: "Tensor", asker: Asker, listed: Sequence[Scene], answered: Answered) -> None:
    every, chat = [asker.questions(scene) for scene in listed], asker.chat
    for turn in range(max(map(len, every))):
        rows = [row for row, few in enumerate(every) if turn < len(few)]
        batch = asker.batch([every[row][turn] for row in rows])
        right = exact_answers(chat.lm, chat.projector, video[rows], batch).tolist()
        for row, is_right in zip(rows, right, strict=True):
            answered.add(every[row][turn].kind, listed[row], is_right)
