"""The dialogues of a run with their videos, cut to the context, and how many were lost on the way."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from bt_model.atomic_files import write_json
from bt_model.errors import InvalidValueError, require
from bt_model.training.chat_base import ChatModelFile, speller_of
from bt_model.training.data.dialogues import VideoDialogue, find_videos, pack_dialogues, read_dialogues
from bt_model.training.data.features import read_manifest, stored_videos
from bt_model.training.data.spelling import Speller, fitting_dialogues
from bt_model.training.instruct.base import is_merged, num_video_tokens
from bt_model.training.instruct.cost import Lengths
from bt_model.training.instruct.features import manifest_of
from bt_model.training.instruct.settings import InstructSettings
from bt_model.video.sample import SAMPLERS

if TYPE_CHECKING:
    from bt_model.training.data.clip_list import ClipList
    from bt_model.vision.encoder import TemporalEncoder

COUNTS = "dialogues.json"
_MEASURED = 256  # dialogues that the average length is measured on


@dataclass(frozen=True, slots=True)
class Corpus:
    """Dialogues beside their videos or features; `counts` says how many were read, cut, left out, used."""

    clips: "ClipList"
    counts: dict[str, int]
    lengths: Lengths
    speller: Speller
    num_video: Callable[[int], int]
    stored: tuple[int, ...]

    def write_counts(self, work: Path) -> None:
        """Write the counts to the run's folder."""
        write_json(work / COUNTS, self.counts)


def read_corpus(
    settings: InstructSettings, base: ChatModelFile, encoder: "TemporalEncoder", max_context: int
) -> Corpus:
    """The dialogues of a run with their videos or stored states.

    Raises:
        InvalidValueError: annotations, features, or numbers that do not fit each other or the model.
    """
    data = settings.data
    _require_room(settings, encoder, max_context)
    speller = speller_of(base)
    num_video = partial(num_video_tokens, encoder, base.file.pooling)
    read = read_dialogues(data)
    fits = fitting_dialogues(read.dialogues, speller, num_video(data.frames), data.max_length or max_context)
    counts = {
        "read": len(read.dialogues) + read.num_empty,
        "empty": read.num_empty,
        "too long": fits.num_too_long,
        "cut": fits.num_cut,
        "used": len(fits.dialogues),
    }
    rows = [speller.row(each, num_video(data.frames)) for each in _spread_out(fits.dialogues)]
    folder, files, stored = Path(data.root), dict[str, Path](), tuple[int, ...]()
    if data.features:
        folder = Path(data.features)
        files, stored = stored_videos(folder), _stored_states(settings, base, encoder, folder)
    else:
        require(folder.is_dir(), "data.root", data.root, "a folder with the videos")
        files = find_videos(folder)
    clips = pack_dialogues(fits.dialogues, files, folder)
    return Corpus(clips, counts, Lengths.of(rows), speller, num_video, stored)


def _require_room(settings: InstructSettings, encoder: "TemporalEncoder", max_context: int) -> None:
    data = settings.data
    if encoder.max_frames is not None and data.frames > encoder.max_frames:
        raise InvalidValueError(
            f"data.frames is {data.frames}; allowed: up to {encoder.max_frames}, the temporal model's most",
            param="data.frames",
        )
    if is_merged(encoder, data.frames):
        if data.frames % 2:
            raise InvalidValueError(
                f"data.frames is {data.frames}; allowed: an even number, to be merged",
                param="data.frames",
            )
        if SAMPLERS[data.strategy].gives_fewer:
            full = [n for n, sampler in SAMPLERS.items() if not (sampler.gives_fewer or sampler.uses_seed)]
            raise InvalidValueError(
                f"data.strategy is {data.strategy!r}, which gives short videos fewer frames, perhaps an odd "
                f"number; allowed for {data.frames} frames, which are merged in pairs: {', '.join(full)}",
                param="data.strategy",
            )
    if data.max_length > max_context:
        raise InvalidValueError(
            f"data.max_length is {data.max_length}; allowed: up to {max_context}, the model's context",
            param="data.max_length",
        )


def _spread_out(dialogues: list[VideoDialogue]) -> list[VideoDialogue]:
    return dialogues[:: max(1, len(dialogues) // _MEASURED)]


def _stored_states(
    settings: InstructSettings, base: ChatModelFile, encoder: "TemporalEncoder", folder: Path
) -> tuple[int, ...]:
    found = read_manifest(folder)
    manifest_of(base, encoder, settings, all_states=False).require(found, folder)
    return found.numbers
