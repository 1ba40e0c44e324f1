"""The embedded model's frozen parts, read from its exported folder instead of being trained again."""

from pathlib import Path
from typing import TYPE_CHECKING

from bt_model.atomic_files import write_text
from bt_model.checkpoints.load import load_part, load_vision
from bt_model.checkpoints.weights import open_checkpoint
from bt_model.errors import CheckpointError

if TYPE_CHECKING:
    from lab.model import EmbeddedModel

TOWERS, IMAGE_CHAT = "clip", "llava_image"


def copy_tokenizers(folder: Path, work: Path) -> None:
    """Put an exported model's tokenizers where `build` looks for them.

    Raises:
        CheckpointError: no tokenizers in the folder, or others in `work` already.
    """
    work.mkdir(parents=True, exist_ok=True)
    for source, name in ((TOWERS, "clip"), (IMAGE_CHAT, "chat")):
        written, target = folder / source / "tokenizer.json", work / f"{name}.json"
        if not written.is_file():
            raise CheckpointError(f"{written}: no such file; an embedded model's folder holds it")
        text = written.read_text(encoding="utf-8")
        if not target.exists():
            write_text(target, text)
        elif target.read_text(encoding="utf-8") != text:
            raise CheckpointError(f"{target}: another model's; {folder} needs a folder of its own")


def read_frozen(model: "EmbeddedModel", folder: Path) -> None:
    """Fill both towers and the image chat model from `folder`, as `training.export` wrote it.

    Raises:
        CheckpointError: a folder without these files, or one of another size.
    """
    towers, chat = (open_checkpoint(folder / name) for name in (TOWERS, IMAGE_CHAT))
    load_vision(model.tower, towers)
    load_part(model.text.tower, towers, "text")
    load_part(model.image.lm, chat, "lm")
    load_part(model.image.projector, chat, "projector")
