"""LLaVA: pooled video tokens through a projector into a Llama.

Every published form: v0, v1 and v1.1 with a linear projector, v1.5 with two layers, in the original folders
or Hugging Face's. Video-ChatGPT is the same model behind another pooling, which the model file sets; its own
file of embeddings and projector replaces those of a LLaVA folder.
"""

from dataclasses import replace
from typing import TYPE_CHECKING

from bt_model.backends.parts.bridge import Bridge
from bt_model.backends.parts.llm import load_lm, trained_rows
from bt_model.backends.parts.projector import load_projector
from bt_model.backends.parts.template_backend import TemplateBackend, open_style
from bt_model.prompt.jinja_template import JinjaTemplate
from bt_model.prompt.own_tokens import OwnTokens
from bt_model.prompt.segments import SpecialIds
from bt_model.prompt.templates import Template
from bt_model.prompt.tokenizer import Tokenizer, open_tokenizer
from bt_model.types import GenerateOptions

if TYPE_CHECKING:
    from bt_model.backends.base import BackendFiles

# A v1 checkpoint's image markers are trained, so they are used where the tokenizer has no video markers.
_MARKERS = (("<vid_start>", "<vid_end>"), ("<im_start>", "<im_end>"))
_VIDEO_ROWS = 3  # <vid_patch>, <vid_start>, <vid_end>, appended to the LLM's own rows
DEFAULTS = GenerateOptions(max_tokens=1024, temperature=0.2)


def create(files: "BackendFiles") -> TemplateBackend:
    """Build the backend from a LLaVA folder (config.json, safetensors, tokenizer) and a projector.

    Special ids come from the tokenizer: those in a published config.json are wrong.

    Raises:
        CheckpointError: a file or tensor that is missing, unexpected or of the wrong shape.
    """
    llm = files.needed("llm")
    tokenizer = open_tokenizer(llm.path)
    own = OwnTokens.of(llm.path, llm.config)
    style = open_style(files.template, own, tokenizer)
    lm = load_lm(files)
    return TemplateBackend(
        lm=lm,
        bridge=Bridge(load_projector(files, files.video_dim, lm.hidden_size)),
        tokenizer=tokenizer,
        template=style,
        ids=special_ids(tokenizer, style, own, trained=_trained_markers(files, tokenizer)),
        defaults=files.defaults.or_else(DEFAULTS),
    )


def special_ids(
    tokenizer: Tokenizer,
    style: Template | JinjaTemplate,
    own: OwnTokens | None = None,
    *,
    trained: tuple[int, int] | None = None,
) -> SpecialIds:
    """The special ids of the prompt, looked up by name in the tokenizer.

    A video that comes before the text has no markers. `trained` are the ids of markers that came with the
    projector and that the tokenizer does not list.

    Raises:
        CheckpointError: the tokenizer lacks a token of the template, or has no pair of markers and needs one.
    """
    ids = SpecialIds.of(style, tokenizer, own)
    if isinstance(style, JinjaTemplate) or style.is_video_first:
        return ids
    if trained is not None and _MARKERS[0][0] not in tokenizer:
        return replace(ids, video_start=trained[0], video_end=trained[1])
    start, end = next((pair for pair in _MARKERS if pair[0] in tokenizer), _MARKERS[0])
    return replace(ids, video_start=tokenizer.special(start), video_end=tokenizer.special(end))


def _trained_markers(files: "BackendFiles", tokenizer: Tokenizer) -> tuple[int, int] | None:
    """Ids of the video markers in a token table beside the projector (Video-ChatGPT); None without one."""
    own, brought = trained_rows(files)
    if brought - _VIDEO_ROWS in (own, tokenizer.vocab_size):
        return brought - 2, brought - 1
    return None
