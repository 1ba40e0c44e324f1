"""`btchat train features`: the frozen tower's states of every video, once and for all epochs.

B videos, T frames, S states, P patches, D width.
"""

import hashlib
import json
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

from bt_model.checkpoints.fingerprint import fingerprint
from bt_model.errors import InvalidValueError, TrainingError
from bt_model.training.chat_base import ChatModelFile
from bt_model.training.data.clip_list import ClipSource
from bt_model.training.data.dialogues import find_videos, read_dialogues
from bt_model.training.data.features import STATES, Manifest, stored_videos
from bt_model.training.data.loader import JUDGED_AFTER, BrokenClips, decode_pool, why_broken
from bt_model.training.instruct.base import load_temporal_model, read_base
from bt_model.training.instruct.recipe import Framing
from bt_model.training.instruct.settings import InstructSettings
from bt_model.training.trainer.optimiser import multiplying_in
from bt_model.training.trainer.parallel import Rank, World, joined
from bt_model.training.trainer.progress import StepProgress
from bt_model.video.transform import normalise
from bt_model.vision.clip import hidden_states

if TYPE_CHECKING:
    from torch import Tensor

    from bt_model.vision.clip import ClipVisionTower
    from bt_model.vision.encoder import TemporalEncoder

_NAME_LENGTH = 32  # hex digits of a file's digest


@dataclass(frozen=True, slots=True)
class WrittenFeatures:
    """Result of this process: videos written, and those that could not be read."""

    num_written: int
    num_broken: int


def manifest_of(
    base: ChatModelFile, encoder: "TemporalEncoder", settings: InstructSettings, *, all_states: bool
) -> Manifest:
    """The manifest for the features of a run."""
    framing = Framing.of(settings.data, encoder.tower.config.image_size, base.file.fit)
    reads = tuple(encoder.chat_reads)
    numbers = reads if all_states else reads[:1]
    return Manifest(fingerprint(encoder.tower.state_dict()), framing.plain(), numbers)


def write_features(settings: InstructSettings, rank: Rank, *, all_states: bool = False) -> WrittenFeatures:
    """Write missing features of the dialogues' videos to data.features; the ranks share the videos.

    Stored is the state that the branch's first layer reads, from which training runs the tower's last layers,
    or with `all_states` every state that the branch reads, several times as large.

    Raises:
        InvalidValueError: no data.features, or a folder of something else.
        TrainingError: more than data.max_broken of the videos cannot be read.
    """
    if not settings.data.features:
        raise InvalidValueError("data.features is ''; allowed: a folder to write", param="data.features")
    folder = Path(settings.data.features)
    with joined(rank, settings.run.device) as world:
        base = read_base(settings)
        encoder = load_temporal_model(base, settings)
        manifest = manifest_of(base, encoder, settings, all_states=all_states)
        if world.is_first:
            manifest.write(folder)
        world.wait()
        tower = encoder.tower.to(world.device)
        broken = BrokenClips(folder, world.rank)
        missing = _missing(settings, folder, world)
        with (
            StepProgress("features", len(missing), is_shown=world.is_first) as progress,
            closing(_Writer(folder, world.rank)) as writer,
        ):
            for video, pixels in _decoded(settings, manifest, missing, broken):
                states = _states(tower, pixels, manifest.numbers, settings, world)
                writer.write(video, missing[video], states)
                progress.update(writer.num_written)
        world.wait()
    return WrittenFeatures(writer.num_written, len(broken.reasons))


def _missing(settings: InstructSettings, folder: Path, world: World) -> dict[str, Path]:
    """This process's share of the videos that are not stored yet, with their files."""
    root, done = Path(settings.data.root), stored_videos(folder)
    videos = find_videos(root)
    named = dict.fromkeys(each.video for each in read_dialogues(settings.data).dialogues)
    todo = sorted(set(named) - set(done))[world.rank :: world.size]
    world.wait()  # so that no rank writes while another still lists what is stored
    return {video: videos.get(video, root / f"{video}.mp4") for video in todo}


def _decoded(
    settings: InstructSettings, manifest: Manifest, missing: Mapping[str, Path], broken: BrokenClips
) -> Iterator[tuple[str, NDArray[Any]]]:
    """Every readable video, in the order in which decoding finishes."""
    data, framing = settings.data, Framing(**manifest.framing)
    waiting, at_work = deque(missing.items()), dict[Future[NDArray[Any]], tuple[str, Path]]()
    num_done = num_broken = 0
    with decode_pool(data) as pool:
        while waiting or at_work:
            while waiting and len(at_work) < data.workers:
                video, path = waiting.popleft()
                at_work[pool.read(path, framing.request(ClipSource(str(path))))] = video, path
            for reply in wait(at_work, return_when=FIRST_COMPLETED).done:
                video, path = at_work.pop(reply)
                num_done += 1
                error = reply.exception()
                if error is None:
                    yield video, reply.result()
                    continue
                num_broken += 1
                broken.add(ClipSource(str(path)).packed(), why_broken(error))
                if num_done >= JUDGED_AFTER and num_broken > data.max_broken * num_done:
                    raise TrainingError(
                        f"{num_broken} of {num_done} videos cannot be read; data.max_broken allows "
                        f"{data.max_broken:.1%}; the last: {broken}"
                    )


def _states(
    tower: "ClipVisionTower",
    pixels: NDArray[Any],
    numbers: tuple[int, ...],
    settings: InstructSettings,
    world: World,
) -> "Tensor":
    """(T, H, W, 3) uint8 -> (S, T, 1 + P, D) float16 on the CPU."""
    frames = normalise(torch.tensor(pixels, device=world.device))[None]
    with multiplying_in(settings.run.precision, world.device.type):
        states = hidden_states(tower, frames, numbers)
    return torch.cat(list(states.values())).half().cpu()


class _Writer:
    """Writes feature files, and the line for each once it is complete."""

    def __init__(self, folder: Path, rank: int) -> None:
        self._folder = folder
        path = folder / f"videos-{rank}.jsonl"
        if path.exists():  # a crash may have cut the last line
            path.write_bytes(path.read_bytes()[: path.read_bytes().rfind(b"\n") + 1])
        self._lines = path.open("a", encoding="utf-8")
        self.num_written = 0

    def write(self, video: str, source: Path, states: "Tensor") -> None:
        with source.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()[:_NAME_LENGTH]
        path = self._folder / f"{digest}.safetensors"
        part = self._folder / f".{digest}.{self._lines.name.rpartition('-')[2]}.part"
        save_file({STATES: states.contiguous()}, part)
        part.chmod(0o644)
        part.replace(path)
        self._lines.write(json.dumps([video, path.name]) + "\n")
        self._lines.flush()
        self.num_written += 1

    def close(self) -> None:
        self._lines.close()
