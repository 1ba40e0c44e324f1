"""From a model file on disk to a loaded VideoChat."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import torch

from bt_model.assembly.model_file import LAST_LAYER, ModelFile, find, read
from bt_model.assembly.placement import Placement
from bt_model.assembly.towers import TowerShelf, vision_config
from bt_model.backends.base import BackendFiles
from bt_model.backends.registry import factory
from bt_model.chat import VideoChat
from bt_model.checkpoints.compatibility import UNTRAINED, ModelParts, check_model, trained_depth
from bt_model.checkpoints.fingerprint import fingerprint
from bt_model.checkpoints.load import AdapterWeights, load_adapter, read_adapter, without_last_layer
from bt_model.checkpoints.metadata import temporal_config
from bt_model.checkpoints.temporal import load_temporal
from bt_model.config import ClipVisionConfig
from bt_model.errors import CheckpointError, InvalidValueError
from bt_model.types import MAX_FRAMES, FrameSize, ModelCard, Quantise
from bt_model.vision.bt_adapter import BTAdapter
from bt_model.vision.clip import ClipVisionTower
from bt_model.vision.encoder import TemporalEncoder, VideoEncoder
from bt_model.vision.pool import pooling


def load(
    name: str,
    weights_dir: Path,
    *,
    device: str = "auto",
    dtype: str | None = None,
    quantise: Quantise = "none",
    towers: TowerShelf | None = None,
) -> VideoChat:
    """Load a model by name or path onto a device; models loaded with one shelf share their towers.

    Raises:
        CheckpointError: a file or tensor that is missing, unexpected or of the wrong shape, or parts that do
            not fit together.
        UnknownNameError: no such model, backend, pooling or template.
    """
    path = find(name, weights_dir)
    model = read(path)
    pooling(model.pooling)  # a name that is wrong is refused now, not at the first video
    factory(model.backend)
    accepted = check_model(parts_of(path.parent, model), model.accept)
    place = Placement.pick(device, dtype, quantise)
    shelf = towers or TowerShelf()
    encoder, notes = load_encoder(path.parent, model, place, shelf)
    encoder.eval()
    files = _backend_files(path.parent, model, encoder.tower.config, place, accepted)
    backend = factory(model.backend)(files)
    card = _card(model, encoder, files, _digest(model, encoder, shelf), backend.lm.max_context)
    drawn = dict.fromkeys(f"{UNTRAINED[check]} is untrained" for check in accepted if check in UNTRAINED)
    return VideoChat(encoder, backend, replace(card, accepted=accepted, notes=(*notes, *drawn)))


def parts_of(folder: Path, model: ModelFile) -> ModelParts:
    """Where a model file's parts lie, for the fit checks.

    Raises:
        CheckpointError: the tower's config.json cannot be read.
    """
    return ModelParts(
        tower=folder / model.tower,
        vision=vision_config(folder / model.tower),
        adapter=None if model.adapter is None else folder / model.adapter,
        llm=folder / model.llm if model.llm else None,
        projector=folder / model.projector if model.projector else None,
        qformer=None if model.qformer is None else folder / model.qformer,
        select_layer=model.select_layer,
    )


def load_encoder(
    folder: Path, model: ModelFile, place: Placement, shelf: TowerShelf
) -> tuple[TemporalEncoder, tuple[str, ...]]:
    """Tower and temporal model of a model file, and what was adapted to make them fit.

    Raises:
        CheckpointError: a file or tensor that is missing, unexpected or of the wrong shape.
    """
    tower = shelf.tower(folder / model.tower, place)
    skip = -1 - model.select_layer
    if model.adapter is None:
        return VideoEncoder(tower, None, skip=skip), ()
    path, notes = folder / model.adapter, ()
    said = temporal_config(path)
    if said is None or (said.kind == "bt_adapter" and not said.is_open):
        adapter, notes = _load_adapter(path, model, tower)
        adapter = adapter.to(place.device, place.dtype)
        encoder = VideoEncoder(tower, adapter, skip=skip, upstream_compat=model.upstream_compat)
    else:
        encoder = load_temporal(path, said, tower, skip=skip, upstream_compat=model.upstream_compat)
    try:
        _ = encoder.chat_reads
    except InvalidValueError as error:
        raise CheckpointError(f"{path}: {error.message}") from error
    return encoder.eval().requires_grad_(requires_grad=False), notes


def _load_adapter(path: Path, model: ModelFile, tower: ClipVisionTower) -> tuple[BTAdapter, tuple[str, ...]]:
    is_silent = temporal_config(path) is None
    gates = (None, None) if is_silent and tower.config.family == "eva" else model.gates
    weights = read_adapter(path, gated=None if gates is None else gates[0] is not None)
    if gates is not None:
        config = replace(weights.config, middle_scale=gates[0], output_scale=gates[1])
        weights = replace(weights, config=config)
    weights, notes = _shortened(path, weights, model, tower.config.num_layers)
    adapter = BTAdapter(tower.config, weights.config)
    load_adapter(adapter, weights, tower)
    return adapter, notes


def _shortened(
    path: Path, weights: AdapterWeights, model: ModelFile, blocks: int
) -> tuple[AdapterWeights, tuple[str, ...]]:
    """A branch pre-trained beside a whole tower, for one that was published without its last layer (1.3)."""
    depth = trained_depth(path)
    if model.select_layer != LAST_LAYER or (depth is not None and depth <= blocks):
        return weights, ()
    count = weights.config.num_layers
    note = f"the branch's last layer of {count} is left out: the tower has no layer to go with it"
    return without_last_layer(weights), (note,)


def _backend_files(
    folder: Path, model: ModelFile, vision: ClipVisionConfig, place: Placement, accepted: tuple[str, ...]
) -> BackendFiles:
    return BackendFiles(
        llm=folder / model.llm,
        projector=folder / model.projector,
        qformer=None if model.qformer is None else folder / model.qformer,
        entry=model.entry,
        template=model.template,
        num_video_tokens=pooling(model.pooling).num_tokens(vision.num_patches),
        video_dim=vision.width,
        defaults=model.defaults,
        device=place.device,
        dtype=place.dtype,
        quantise=place.quantise,
        untrained=tuple(check for check in accepted if check in UNTRAINED),
        lora=None if model.lora is None else folder / model.lora,
    )


def _card(
    model: ModelFile, encoder: TemporalEncoder, files: BackendFiles, digest: str, max_context: int
) -> ModelCard:
    return ModelCard(
        id=model.id,
        backend=model.backend,
        frame_size=FrameSize(encoder.tower.config.image_size, model.fit),
        default_frames=model.default_frames,
        max_frames=min(MAX_FRAMES, encoder.max_frames or MAX_FRAMES),
        max_context=max_context,
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
            "temporal": encoder.config.name,
        },
    )


def _digest(model: ModelFile, encoder: TemporalEncoder, shelf: TowerShelf) -> str:
    """Of everything that decides the features: the weights of tower and model, and how they are used."""
    tower = encoder.tower
    said = [shelf.digest(tower), asdict(tower.config), asdict(encoder.config), encoder.skip]
    text = json.dumps([*said, model.upstream_compat], sort_keys=True)
    how = torch.tensor(list(text.encode()), dtype=torch.uint8)
    state = {
        f"{part}.{name}": tensor
        for part, module in encoder.trainable().items()
        for name, tensor in module.state_dict().items()
    }
    return fingerprint({**state, "how": how})
