"""What the embedded model can do, on scenes of colour x shape x motion combinations that training never saw.

B clips, T frames, P patches, D width.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING

import torch

from bt_model.training.data.tokens import collate
from bt_model.training.objectives.answers import exact_answers
from lab.clips import Corpus
from lab.dialogues import DialogueTokens
from lab.shapes.questions import STATIC, TEMPORAL, Question, questions
from lab.shapes.scene import Scene
from lab.stages import ChatParts
from lab.statistics import Share, share

if TYPE_CHECKING:
    from torch import Tensor

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
    """A chat model and what it is asked: how questions are spelled, and of which kinds."""

    chat: ChatParts
    tokens: DialogueTokens
    seed: int
    kinds: Collection[str] = (*TEMPORAL, *STATIC)

    def questions(self, scene: Scene) -> list[Question]:
        """One question of each kind, in the same words for a scene and its twin."""
        asked = questions(scene, Random(f"{self.seed} {scene.key}"))
        return [question for question in asked if question.kind in self.kinds]


@dataclass(frozen=True, slots=True)
class Shown:
    """Scenes and what a chat model reads of their clips, and of their twins' clips, each (B, K, D)."""

    scenes: Sequence[Scene]
    clips: "Tensor"
    twins: "Tensor"


def show(tokens_of: VideoTokensOf, reads: range, corpus: Corpus) -> Iterator[Shown]:
    """All clips of a corpus, batch by batch; `tokens_of` makes video tokens of the hidden states `reads`."""
    for begin in range(0, len(corpus.scenes), BATCH):
        rows = range(begin, min(begin + BATCH, len(corpus.scenes)))
        with torch.inference_mode():
            clips, twins = (tokens_of(states) for states in corpus.both(rows, reads))
        yield Shown([corpus.scenes[row] for row in rows], clips, twins)


def answer_questions(shown: Iterable[Shown], asker: Asker) -> Answered:
    """Ask every question about every clip and its twin, each as a first turn."""
    answered = Answered()
    for batch in shown:
        _answer(batch.clips, asker, batch.scenes, answered)
        _answer(batch.twins, asker, [scene.twin() for scene in batch.scenes], answered)
    return answered


def _answer(video: "Tensor", asker: Asker, listed: Sequence[Scene], answered: Answered) -> None:
    asked = [asker.questions(scene) for scene in listed]
    chat, tokens = asker.chat, asker.tokens
    for place in range(max(map(len, asked))):
        picked = [number for number, few in enumerate(asked) if place < len(few)]
        batch = collate([tokens.row([asked[n][place]]) for n in picked], tokens.num_video, tokens.ids.eos)
        right = exact_answers(chat.lm, chat.projector, video[picked], batch).tolist()
        for number, is_right in zip(picked, right, strict=True):
            answered.add(asked[number][place].kind, listed[number], is_right)
