"""What embeddings of test clips say: which twin is which, which clip is meant, what is in it.

B clips, T frames, E joint width; answers are listed scene by scene, so every figure can be computed anew.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn.functional import normalize

from bt_model.evaluation.retrieval import found_among
from lab.shapes.captions import caption
from lab.shapes.scene import BACKGROUNDS, COLOURS, SHAPES, Scene
from lab.statistics import Answers
from lab.trunk_cache import states_by_number

if TYPE_CHECKING:
    from torch import Tensor

    from bt_model.vision.encoder import TemporalEncoder
    from lab.chat_model import TextEncoder
    from lab.clips import CachedClips

BATCH = 50
POOL = 100  # scenes in a retrieval pool, each with its clip and its twin
STATIC_PROMPT = "a {colour} {shape} on a {background} background"
ATTRIBUTES: Mapping[str, Sequence[str]] = {
    "shape": SHAPES,
    "colour": tuple(COLOURS),
    "background": tuple(BACKGROUNDS),
}


@dataclass(frozen=True, slots=True)
class TwinEmbeddings:
    """Unit embeddings of test clips and their twins, and of a caption each, all (n, E)."""

    clips: "Tensor"
    twins: "Tensor"
    captions: "Tensor"
    twin_captions: "Tensor"


def embed_clips(
    encoder: "TemporalEncoder",
    text: "TextEncoder",
    test: "CachedClips",
    seed: int,
    change: "Callable[[list[Tensor]], list[Tensor]]" = list,
) -> TwinEmbeddings:
    """Run a model over every clip, forwards and as its twin, whose trunk states `change` may change first."""
    found: tuple[list[Tensor], list[Tensor]] = ([], [])
    with torch.inference_mode():
        for pair in test.batches(BATCH, encoder.reads):
            for embeds, batch in zip(found, pair, strict=True):
                embeds.append(encoder.retrieve_from_trunk(change(states_by_number(batch.clips))))
        own = text([caption(s, Random(f"{seed} {s.key}")) for s in test.scenes])
        other = text([caption(s.twin(), Random(f"{seed} {s.key}")) for s in test.scenes])
    return TwinEmbeddings(*(normalize(x.float(), dim=1) for x in (*map(torch.cat, found), own, other)))


def by_kind(scenes: Sequence[Scene]) -> dict[str, list[int]]:
    """Indices of the scenes of every event kind."""
    rows: dict[str, list[int]] = {}
    for number, scene in enumerate(scenes):
        rows.setdefault(scene.event.kind, []).append(number)
    return rows


def twin_choices(embeddings: TwinEmbeddings, scenes: Sequence[Scene]) -> dict[str, Answers]:
    """Is a clip nearer to its own caption than to its twin's? By event kind, (n, 2): clip and twin."""
    towards = embeddings.captions - embeddings.twin_captions
    ahead = torch.stack([(embeddings.clips * towards).sum(1), -(embeddings.twins * towards).sum(1)], dim=1)
    credit = (ahead > 0).double() + 0.5 * (ahead == 0).double()
    return {kind: credit[rows].numpy() for kind, rows in by_kind(scenes).items()}


def first_hits(embeddings: TwinEmbeddings, scenes: Sequence[Scene]) -> dict[str, Answers]:
    """Is a caption's own clip the nearest of a pool of clips and their twins? By event kind, (n, 2).

    A tie of k clips counts 1 / k, so a model that is blind to order can reach 0.5.
    """
    hits: dict[str, Answers] = {}
    for kind, rows in by_kind(scenes).items():
        parts = [_hits(embeddings, rows[begin : begin + POOL]) for begin in range(0, len(rows), POOL)]
        hits[kind] = np.concatenate(parts)
    return hits


def _hits(embeddings: TwinEmbeddings, rows: Sequence[int]) -> Answers:
    videos = torch.cat([embeddings.clips[rows], embeddings.twins[rows]])
    texts = torch.cat([embeddings.captions[rows], embeddings.twin_captions[rows]])
    return found_among(texts @ videos.T, 1).unflatten(0, (2, -1)).T.numpy()


def static_choices(
    embeddings: TwinEmbeddings, text: "TextEncoder", scenes: Sequence[Scene]
) -> dict[str, Answers]:
    """Is the true shape, colour or background the nearest? By attribute, where it lasts, (n, 2)."""
    with torch.inference_mode():
        table = {
            (shape, colour, background): row
            for row, (shape, colour, background) in enumerate(_combinations())
        }
        prompts = normalize(
            text([STATIC_PROMPT.format(shape=s, colour=c, background=b) for s, c, b in table]).float(), dim=1
        )
    answers: dict[str, Answers] = {}
    for attribute, values in ATTRIBUTES.items():
        rows = [n for n, scene in enumerate(scenes) if attribute != "colour" or not _recolours(scene)]
        if not rows:
            continue
        chosen = [
            [table[_with(scenes[n], attribute, value)] for value in values] for n in rows
        ]  # (n, values)
        candidates = prompts[torch.tensor(chosen)]
        truth = torch.tensor([values.index(_facts(scenes[n])[attribute]) for n in rows])
        found = [
            (torch.einsum("ne,nve->nv", videos[rows], candidates).argmax(dim=1) == truth)
            for videos in (embeddings.clips, embeddings.twins)
        ]
        answers[attribute] = torch.stack(found, dim=1).double().numpy()
    return answers


def _combinations() -> list[tuple[str, str, str]]:
    return [(s, c, b) for s in SHAPES for c in COLOURS for b in BACKGROUNDS]


def _facts(scene: Scene) -> dict[str, str]:
    return {"shape": scene.actor.shape, "colour": scene.actor.colour, "background": scene.background}


def _with(scene: Scene, attribute: str, value: str) -> tuple[str, str, str]:
    facts = _facts(scene) | {attribute: value}
    return facts["shape"], facts["colour"], facts["background"]


def _recolours(scene: Scene) -> bool:
    return scene.event.kind == "recolour"
