"""From a model file on disk to its joint space."""

from dataclasses import replace
from hashlib import sha256
from pathlib import Path

from bt_model.assembly.catalog import find
from bt_model.assembly.load import encoder_digest, load_encoder, open_parts
from bt_model.assembly.model_file import ModelFile, read_model_file
from bt_model.assembly.placement import Placement
from bt_model.assembly.towers import TowerCache, tower_configs
from bt_model.checkpoints.compatibility import check_model
from bt_model.checkpoints.fingerprint import fingerprint
from bt_model.checkpoints.load import load_part
from bt_model.checkpoints.weights import is_finite, open_checkpoint
from bt_model.errors import CheckpointError
from bt_model.search.joint_space import JointSpace, embed_texts
from bt_model.text.clip_text import ClipTextTower
from bt_model.text.clip_tokenizer import ClipTokenizer
from bt_model.types import FrameSize
from bt_model.vision.clip import ClipVisionTower

_BANK_BYTES = 1 << 20
_SAID = '"search" in the model file says which: {"text": "FOLDER", "adapter": "FILE"}'


def load_joint_space(
    name: str,
    weights_dir: Path,
    *,
    device: str = "auto",
    dtype: str | None = None,
    towers: TowerCache | None = None,
) -> JointSpace:
    """The joint space of a model, by name or path; with a chat model's cache it shares that one's tower.

    Raises:
        CheckpointError: what the model has no joint space without is missing, or parts do not fit together.
        UnknownNameError: no such model.
    """
    path = find(name, weights_dir)
    return joint_space_of(
        path, read_model_file(path, weights_dir), Placement.pick(device, dtype), towers or TowerCache()
    )


def joint_space_of(path: Path, model: ModelFile, place: Placement, towers: TowerCache) -> JointSpace:
    """The joint space of a model file that was read. Raises CheckpointError as `load_joint_space`."""
    adapter = model.adapter if model.search.adapter == "" else model.search.adapter
    own = replace(model, adapter=adapter, llm="", projector="", qformer=None)
    parts = open_parts(path.parent, own)
    check_model(parts, model.accept)
    if parts.adapter is not None and parts.adapter.layout.ends_early:
        raise CheckpointError(
            f"{path}: search needs the branch's last layer, which {adapter} lacks: it was published for chat "
            f"alone; {_SAID}"
        )
    encoder, _ = load_encoder(parts, own, place, towers)
    _require_projection(path, encoder.trunk)
    text, tokenizer = _text_side(path, model)
    if text.config.projection_dim != encoder.tower.config.projection_dim:
        found, expected = text.config.projection_dim, encoder.tower.config.projection_dim
        raise CheckpointError(
            f"{path}: search.text has a joint space of {found} numbers, and the tower one of {expected}"
        )
    text = text.to(place.device, place.dtype)
    texts, size = _bank_texts(path, model), FrameSize(encoder.tower.config.image_size, model.fit)
    made_by = [encoder_digest(own, encoder, towers)]
    if texts:
        made_by += [fingerprint(text.state_dict()), *texts]
    digest = sha256("\n".join(made_by).encode()).hexdigest()
    return JointSpace(encoder, text, tokenizer, size, embed_texts(text, tokenizer, texts), digest)


def _bank_texts(path: Path, model: ModelFile) -> list[str]:
    """The texts of the bank, none without one."""
    if not model.search.bank:
        return []
    file = path.parent / model.search.bank
    try:
        with file.open("rb") as opened:
            data = opened.read(_BANK_BYTES + 1)
        texts = [line.strip() for line in data.decode().splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{file}: search.bank is no readable text ({error})") from error
    if not texts or len(data) > _BANK_BYTES:
        raise CheckpointError(
            f"{file}: search.bank has {len(texts)} texts in {len(data)} bytes or more; allowed: "
            f"1 or more texts, one a line, in up to {_BANK_BYTES} bytes"
        )
    return texts


def _require_projection(path: Path, tower: ClipVisionTower) -> None:
    """What a tower's file lacked became NaN when it was loaded."""
    lacking = [
        name
        for name in ("visual_projection", "post_layernorm")
        if not all(map(is_finite, getattr(tower, name).parameters()))
    ]
    if lacking:
        raise CheckpointError(
            f"{path}: search needs the tower's way into the joint space, and its file lacks "
            f"{' and '.join(lacking)}; a folder with all of CLIP has both"
        )


def _text_side(path: Path, model: ModelFile) -> tuple[ClipTextTower, ClipTokenizer]:
    """The text tower and its tokenizer: those that are named, or what lies in the tower's own folder."""
    tower, files = path.parent / model.tower, model.search
    source = path.parent / files.text if files.text else tower
    checkpoint = open_checkpoint(source)
    if "text" not in checkpoint.parts:
        raise CheckpointError(f"{path}: search needs a text tower, and {source} has none; {_SAID}")
    text = ClipTextTower(tower_configs(tower, source).text)
    load_part(text, checkpoint, "text")
    beside = source if source.is_dir() else source.parent
    tokenizer = ClipTokenizer.from_file(path.parent / files.tokenizer if files.tokenizer else beside)
    if tokenizer.vocab_size > text.config.vocab_size:
        raise CheckpointError(
            f"{path}: search.tokenizer has {tokenizer.vocab_size} ids, and its text tower "
            f"{text.config.vocab_size}"
        )
    return text.eval().requires_grad_(requires_grad=False), tokenizer
