"""From a model file on disk to a loaded VideoChat."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from itertools import count
from pathlib import Path
from typing import TypeAlias

import torch

from bt_model.assembly.catalog import find
from bt_model.assembly.language_digest import language_digest
from bt_model.assembly.model_file import ALL_FRAMES, LAST_LAYER, POOLED_WITH_CLS, ModelFile, read_model_file
from bt_model.assembly.placement import Placement
from bt_model.assembly.towers import TowerCache, vision_config
from bt_model.backends.base import Backend, BackendFiles
from bt_model.backends.registry import factory
from bt_model.chat import VideoChat
from bt_model.checkpoints.compatibility import UNTRAINED, ModelParts, check_model, trained_depth
from bt_model.checkpoints.fingerprint import fingerprint
from bt_model.checkpoints.load import AdapterWeights, load_adapter, read_adapter, without_last_layer
from bt_model.checkpoints.temporal import load_temporal
from bt_model.checkpoints.weights import Checkpoint, Weights, open_checkpoint
from bt_model.errors import CheckpointError, InvalidValueError
from bt_model.prompt.templates import check_template
from bt_model.types import MAX_FRAMES, FrameSize, ModelCard, Quantise
from bt_model.vision.bt_adapter import BTAdapter
from bt_model.vision.clip import ClipVisionTower
from bt_model.vision.encoder import TemporalEncoder, VideoEncoder
from bt_model.vision.pool import pooling

OnFile: TypeAlias = Callable[[int, int], None]
"""Gets the number of the file that is being read, and that of all files."""


def load(
    name: str,
    weights_dir: Path,
    *,
    device: str = "auto",
    dtype: str | None = None,
    quantise: Quantise = "none",
    towers: TowerCache | None = None,
    report: OnFile | None = None,
) -> VideoChat:
    """Load a model by name or path onto a device; models loaded with one cache share their towers.

    `report` is told of every file of weights when its first tensor is read.

    Raises:
        CheckpointError: a file or tensor that is missing, unexpected or of the wrong shape, or parts that do
            not fit together.
        UnknownNameError: no such model, backend, pooling or template.
    """
    path = find(name, weights_dir)
    model = read_model_file(path, weights_dir)
    check_pooling(path, model)
    check_template(model.template)
    create = factory(model.backend)
    parts = open_parts(path.parent, model)
    if report is not None:
        _watch(parts.files, report)
    accepted = check_model(parts, model.accept)
    place = Placement.pick(device, dtype, quantise)
    cache = towers or TowerCache()
    encoder, notes = load_encoder(parts, model, place, cache)
    encoder.eval()
    files = _backend_files(path.parent, model, parts, place, accepted)
    backend = create(files)
    card = _card(model, encoder, files, encoder_digest(model, encoder, cache), backend)
    drawn = dict.fromkeys(f"{UNTRAINED[check]} is untrained" for check in accepted if check in UNTRAINED)
    card = replace(
        card,
        language_fingerprint=language_digest(model, files),
        even_above=even_above(model, parts.adapter),
        accepted=accepted,
    )
    return VideoChat(encoder, backend, replace(card, notes=(*notes, *drawn)))


def load_beside(chat: VideoChat, path: Path, adapter: str, place: Placement, towers: TowerCache) -> VideoChat:
    """A loaded model with another adapter of its file; tower, projector and LLM are the same objects.

    Raises:
        CheckpointError: a file or tensor that is missing, unexpected or of the wrong shape, or parts that do
            not fit together.
    """
    model = read_model_file(path).with_adapter(adapter)
    parts = open_parts(path.parent, model)
    accepted = check_model(parts, model.accept)
    encoder, notes = load_encoder(parts, model, place, towers)
    card = replace(
        chat.card,
        id=model.id,
        notice=model.notice,
        max_frames=min(MAX_FRAMES, encoder.max_frames or MAX_FRAMES),
        fingerprint=encoder_digest(model, encoder.eval(), towers),
        versions={**chat.card.versions, "temporal": encoder.config.name},
        even_above=even_above(model, parts.adapter),
        notes=notes,
        accepted=accepted,
    )
    return VideoChat(encoder, chat.backend, card)


def _watch(files: Sequence[Weights], report: OnFile) -> None:
    numbers = count(1)
    for file in files:
        file.on_first_read = lambda: report(next(numbers), len(files))


def check_pooling(path: Path, model: ModelFile) -> None:
    """A Q-Former reads either one pooled clip or the tokens of every frame.

    Raises:
        CheckpointError: the pooling makes the other.
        UnknownNameError: no such pooling.
    """
    is_per_frame = pooling(model.pooling).is_per_frame
    if model.entry != "clip":
        ok, allowed = model.pooling == ALL_FRAMES, repr(ALL_FRAMES)
    else:
        ok = model.qformer is None or not is_per_frame
        allowed = f"{POOLED_WITH_CLS!r}, or another that pools over time"
    if not ok:
        found = f"entry is {model.entry!r} and pooling {model.pooling!r}"
        raise CheckpointError(f"{path}: {found}; allowed with it: {allowed}")


def open_parts(folder: Path, model: ModelFile) -> ModelParts:
    """The files that a model file names, each opened once, whatever number of parts it holds.

    Raises:
        CheckpointError: one that is missing or damaged, or a tower whose config.json says what none can be.
    """
    opened: dict[Path, Checkpoint] = {}

    def part(name: str | None) -> Checkpoint | None:
        if not name:
            return None
        path = (folder / name).resolve()
        return opened.get(path) or opened.setdefault(path, open_checkpoint(folder / name))

    tower = open_checkpoint(folder / model.tower)
    opened[tower.path.resolve()] = tower
    return ModelParts(
        tower=tower,
        vision=vision_config(tower.path, tower.required_config()),
        select_layer=model.select_layer,
        adapter=part(model.adapter),
        llm=part(model.llm),
        projector=part(model.projector),
        qformer=part(model.qformer),
    )


def even_above(model: ModelFile, adapter: Checkpoint | None) -> int:
    """Of more frames than this the model takes an even number only: its branch merges them in pairs.

    Known from the header of the branch's file; `upstream_compat` groups any number of frames in two halves.
    """
    if adapter is None or not (adapter.temporal is None or adapter.temporal.has_branch):
        return MAX_FRAMES
    return 0 if model.upstream_compat else adapter.shapes("adapter")["time_embed.weight"][0]


def load_encoder(
    parts: ModelParts, model: ModelFile, place: Placement, towers: TowerCache
) -> tuple[TemporalEncoder, tuple[str, ...]]:
    """Tower and temporal model of a model file, and notes on what was adapted to make them fit.

    Raises:
        CheckpointError: a tensor that is missing, unexpected or of the wrong shape.
    """
    tower, checkpoint = towers.tower(parts.tower, place), parts.adapter
    skip, notes = -1 - model.select_layer, ()
    if checkpoint is None:
        return VideoEncoder(tower, None, skip=skip), ()
    temporal = checkpoint.temporal
    if temporal is None or (temporal.kind == "bt_adapter" and not temporal.is_open):
        adapter, notes = _load_adapter(checkpoint, model, tower)
        adapter = adapter.to(place.device, place.dtype)
        encoder = VideoEncoder(tower, adapter, skip=skip, upstream_compat=model.upstream_compat)
    else:
        encoder = load_temporal(checkpoint, tower, skip=skip, upstream_compat=model.upstream_compat)
    try:
        _ = encoder.chat_reads
    except InvalidValueError as error:
        raise CheckpointError(f"{checkpoint.path}: {error.message}") from error
    return encoder.eval().requires_grad_(requires_grad=False), notes


def _load_adapter(
    checkpoint: Checkpoint, model: ModelFile, tower: ClipVisionTower
) -> tuple[BTAdapter, tuple[str, ...]]:
    is_published_eva = checkpoint.temporal is None and tower.config.family == "eva"
    gates = (None, None) if is_published_eva else model.gates
    weights = read_adapter(checkpoint, gated=None if gates is None else gates[0] is not None)
    if gates is not None:
        config = replace(weights.config, middle_scale=gates[0], output_scale=gates[1])
        weights = replace(weights, config=config)
    weights, notes = _shortened(checkpoint, weights, model, tower.config.num_layers)
    adapter = BTAdapter(tower.config, weights.config)
    load_adapter(adapter, weights, tower)
    return adapter, notes


def _shortened(
    checkpoint: Checkpoint, weights: AdapterWeights, model: ModelFile, blocks: int
) -> tuple[AdapterWeights, tuple[str, ...]]:
    """A branch pre-trained beside a whole tower, for one that was published without its last layer."""
    depth = trained_depth(checkpoint)
    if model.select_layer != LAST_LAYER or (depth is not None and depth <= blocks):
        return weights, ()
    count = weights.config.num_layers
    note = f"the branch's last layer of {count} is left out: the tower has no layer to go with it"
    return without_last_layer(weights), (note,)


def _backend_files(
    folder: Path, model: ModelFile, parts: ModelParts, place: Placement, accepted: tuple[str, ...]
) -> BackendFiles:
    return BackendFiles(
        llm=parts.llm,
        projector=parts.projector,
        qformer=parts.qformer,
        entry=model.entry,
        template=model.template,
        num_video_tokens=pooling(model.pooling).num_tokens(parts.vision.num_patches),
        video_dim=parts.vision.width,
        defaults=model.defaults,
        device=place.device,
        dtype=place.dtype,
        quantise=place.quantise,
        untrained=tuple(check for check in accepted if check in UNTRAINED),
        lora=None if model.lora is None else folder / model.lora,
    )


def _card(
    model: ModelFile, encoder: TemporalEncoder, files: BackendFiles, digest: str, backend: Backend
) -> ModelCard:
    return ModelCard(
        id=model.id,
        backend=model.backend,
        frame_size=FrameSize(encoder.tower.config.image_size, model.fit),
        default_frames=model.default_frames,
        max_frames=min(MAX_FRAMES, encoder.max_frames or MAX_FRAMES),
        max_context=backend.lm.max_context,
        num_video_tokens=files.num_video_tokens,
        video_dim=files.video_dim,
        fingerprint=digest,
        pooling=model.pooling,
        notice=model.notice,
        versions={
            "torch": torch.__version__,
            "device": str(files.device),
            "dtype": str(files.dtype),
            "quantise": files.quantise,
            "decoder": backend.lm.decoder,
            "temporal": encoder.config.name,
        },
        text_bound=backend.text_bound,
        vocab_size=backend.lm.vocab_size,
        max_videos=min(model.max_videos, backend.max_videos),
    )


def encoder_digest(model: ModelFile, encoder: TemporalEncoder, towers: TowerCache) -> str:
    """Digest of everything that features depend on: weights of tower and model, and how they are used."""
    tower = encoder.tower
    settings = [towers.digest(tower), asdict(tower.config), asdict(encoder.config), encoder.skip]
    text = json.dumps([*settings, model.upstream_compat], sort_keys=True)
    how = torch.tensor(list(text.encode()), dtype=torch.uint8)
    state = {
        f"{part}.{name}": tensor
        for part, module in encoder.trainable().items()
        for name, tensor in module.state_dict().items()
    }
    return fingerprint({**state, "how": how})
