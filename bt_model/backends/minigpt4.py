"""MiniGPT-4: a Q-Former without text and one linear layer before a Vicuna."""

from typing import TYPE_CHECKING

from bt_model.backends.parts.bridge import load_bridge
from bt_model.backends.parts.llm import load_lm
from bt_model.backends.parts.template_backend import TemplateBackend, open_style
from bt_model.prompt.own_tokens import OwnTokens
from bt_model.prompt.segments import SpecialIds
from bt_model.prompt.tokenizer import open_tokenizer
from bt_model.types import GenerateOptions

if TYPE_CHECKING:
    from bt_model.backends.base import BackendFiles

DEFAULTS = GenerateOptions(max_tokens=300, temperature=1.0, top_p=0.9, repetition_penalty=1.05)


def create(files: "BackendFiles") -> TemplateBackend:
    """Build the backend from a Vicuna folder, a BLIP-2 file (Q-Former) and MiniGPT-4's projection.

    Raises:
        CheckpointError: a file or tensor that is missing, unexpected or of the wrong shape.
    """
    llm = files.needed("llm")
    tokenizer = open_tokenizer(llm.path)
    own = OwnTokens.of(llm.path, llm.config)
    style = open_style(files.template, own, tokenizer)
    lm = load_lm(files)
    bridge = load_bridge(files, lm.hidden_size)
    ids = SpecialIds.of(style, tokenizer, own)
    return TemplateBackend(lm, bridge, tokenizer, style, ids, files.defaults.or_else(DEFAULTS))
