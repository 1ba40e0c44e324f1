"""Decoders that transformers computes: one sequence after another, each with a cache of the library's own.

N rows, R rows whose logits are wanted, W width, V vocabulary. Right rather than fast: sequences share nothing
and are not batched.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from bt_model.errors import CheckpointError
from bt_model.generation.chunk import PAGE, Chunk
from bt_model.generation.language_model import compute, widened

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_PROBED = 5  # tokens
_TOLERANCE = {torch.float32: 1e-3, torch.float16: 0.05, torch.bfloat16: 0.2}  # of the largest logit


class TransformersModel:
    """Implements `LanguageModel` over a causal model of transformers.

    Raises:
        CheckpointError: a model whose steps from embeddings, with a cache, differ from one whole pass.
    """

    decoder = "transformers"
    shares_prefixes = False

    def __init__(self, model: "PreTrainedModel", max_context: int) -> None:
        self._model: Any = model.eval().requires_grad_(requires_grad=False)
        self._table: Tensor = self._model.get_input_embeddings().weight
        self.max_context = max_context
        self.page_bytes = PAGE * self._probe()

    @property
    def vocab_size(self) -> int:
        return self._table.shape[0]

    @property
    def hidden_size(self) -> int:
        return self._table.shape[1]

    def embed(self, ids: Tensor) -> Tensor:
        """Token ids, any shape (...) int64 -> (..., W)."""
        return self._model.get_input_embeddings()(ids.to(self._table.device))

    def start(self, num_pages: int, *, keep_weights: bool = True) -> "TransformersRunner":  # noqa: ARG002 - the contract
        """A runner without anything in its caches, which grow with their sequences."""
        return TransformersRunner(self._model, self.vocab_size)

    @torch.inference_mode()
    def _probe(self) -> int:
        """Bytes of a cached position; some tokens in two steps must give what they give in one."""
        embeds = self.embed(torch.arange(1, 1 + _PROBED))
        runner = self.start(1)
        whole = compute(runner, embeds, [Chunk((1,), 0, _PROBED, is_prompt=True)])[0]
        num_bytes = runner.num_bytes // _PROBED
        compute(runner, embeds[:2], [Chunk((1,), 0, 2, is_prompt=True)])
        compute(runner, embeds[2:4], [Chunk((1,), 2, 2, is_prompt=True)])
        last = compute(runner, embeds[4:], [Chunk((1,), 4, _PROBED - 4, is_prompt=False)])[0]
        is_spoken = whole.isfinite()
        error = (last - whole)[is_spoken].abs().max() / whole[is_spoken].abs().max()
        if not error < _TOLERANCE.get(whole.dtype, 0.2):
            raise CheckpointError(
                f"{type(self._model).__name__}: steps from embeddings differ from one pass by {error:.2g} of "
                "the largest logit, so that transformers' model cannot be used here"
            )
        return num_bytes


@dataclass(frozen=True, slots=True)
class _Sequence:
    """A sequence so far: the library's cache and its length, and the logits (V,) after it."""

    last: Chunk
    cache: Any
    logits: Tensor


class TransformersRunner:
    """A cache for each sequence, by the first of its pages; a page in new hands ends the sequence before."""

    def __init__(self, model: Any, vocab_size: int) -> None:
        self._model = model
        self._vocab = vocab_size
        self._sequences: dict[int, _Sequence] = {}
        self._owners: dict[int, int] = {}  # page -> the first page of its sequence

    @property
    def num_bytes(self) -> int:
        """Memory of all caches."""
        layers = [layer for each in self._sequences.values() for layer in each.cache.layers]
        held = [value for layer in layers for value in vars(layer).values() if isinstance(value, Tensor)]
        return sum(tensor.nbytes for tensor in held)

    def copy(self, source: int, target: int) -> None:
        raise RuntimeError(f"page {source} cannot become page {target}: no prefix is shared here")

    def clear(self, page: int) -> None:
        self._sequences.pop(self._owners.pop(page, 0), None)

    @torch.inference_mode()
    def forward(self, embeds: Tensor, chunks: Sequence[Chunk]) -> Iterator[Tensor]:
        """The chunks' rows (N, W) -> logits (R, V) of those that are last, in one part."""
        each = zip(chunks, embeds.split([chunk.count for chunk in chunks]), strict=True)
        logits = [self._computed(chunk, rows) for chunk, rows in each]
        wanted = [row for chunk, row in zip(chunks, logits, strict=True) if chunk.is_last]
        yield torch.stack(wanted) if wanted else embeds.new_empty(0, self._vocab)

    def _computed(self, chunk: Chunk, rows: Tensor) -> Tensor:
        known = self._taken_over(chunk)
        if known is not None and known.last == chunk and chunk.start:  # computed in a step that broke
            return known.logits
        if not chunk.start:
            known = None
        elif known is None or known.last.end != chunk.start:
            raise RuntimeError(f"a sequence goes on at {chunk.start}, but what was before is gone")
        self._sequences.pop(chunk.pages[0], None)  # whatever happens, its cache is not what it was
        result = self._model(
            inputs_embeds=rows[None],
            past_key_values=None if known is None else known.cache,
            use_cache=True,
            logits_to_keep=1,
        )
        logits = widened(result.logits[0, -1], self._vocab)
        self._sequences[chunk.pages[0]] = _Sequence(chunk, result.past_key_values, logits)
        return logits

    def _taken_over(self, chunk: Chunk) -> _Sequence | None:
        """The chunk's sequence, once its pages are its own."""
        first = chunk.pages[0]
        for page in chunk.pages:
            owner = self._owners.get(page, first)
            if owner != first:
                self._sequences.pop(owner, None)
            self._owners[page] = first
        return self._sequences.get(first)
