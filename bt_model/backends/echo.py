"""A chat model without weights: it repeats the question. For tests and for client development."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from torch.nn.functional import one_hot

from bt_model.generation.chunk import PAGE, Chunk
from bt_model.generation.request import Segment, Soft, Tokens
from bt_model.prompt.turns import check_turns
from bt_model.types import MAX_VIDEOS, GenerateOptions, TokenText, Turn, VideoTokens

if TYPE_CHECKING:
    from torch import Tensor

    from bt_model.backends.base import BackendFiles

EOS, BEGIN = 256, 257  # after the 256 bytes
VOCAB = 258
MAX_CONTEXT = 4096


class EchoLM:
    """Predicts the bytes after the last BEGIN mark once more, then EOS. Embeddings are one-hot."""

    vocab_size = VOCAB
    hidden_size = VOCAB
    max_context = MAX_CONTEXT
    decoder = "own"
    shares_prefixes = True

    def embed(self, ids: "Tensor") -> "Tensor":
        """(n,) -> (n, VOCAB)."""
        return one_hot(ids, VOCAB).float()

    @property
    def page_bytes(self) -> int:
        return 8 * PAGE

    def start(self, num_pages: int, *, keep_weights: bool = True) -> "EchoRunner":
        del keep_weights
        return EchoRunner(num_pages)


class EchoRunner:
    """Its cache holds the ids of each position."""

    def __init__(self, num_pages: int) -> None:
        self._pages = torch.zeros(num_pages + 1, PAGE, dtype=torch.int64)

    def forward(self, embeds: "Tensor", chunks: Sequence[Chunk]) -> "Iterator[Tensor]":
        """(N, VOCAB) -> logits (R, VOCAB)."""
        logits: list[Tensor] = []
        for chunk, new in zip(chunks, embeds.split([chunk.count for chunk in chunks]), strict=True):
            ids = self._pages[list(chunk.pages)].flatten()
            ids[chunk.start : chunk.end] = new.argmax(dim=1)
            self._pages[list(chunk.pages)] = ids.view(-1, PAGE)
            if chunk.is_last:
                logits.append(_next(ids[: chunk.end].tolist()))
        yield torch.stack(logits) if logits else torch.empty(0, VOCAB)

    def copy(self, source: int, target: int) -> None:
        self._pages[target] = self._pages[source]

    def clear(self, page: int) -> None:
        self._pages[page] = 0


def _next(ids: list[int]) -> "Tensor":
    """Logits (VOCAB,) of what comes after these."""
    begin = len(ids) - ids[::-1].index(BEGIN)
    end = ids.index(EOS, begin)
    question, answer = ids[begin:end], ids[end + 1 :]
    token = question[len(answer)] if len(answer) < len(question) else EOS
    return one_hot(torch.tensor(token), VOCAB).float() * 100


class EchoBackend:
    """Takes video tokens of any width; each occupies one position of the prompt."""

    lm = EchoLM()
    stop_token_ids = frozenset({EOS})
    stop_strings = ()
    defaults = GenerateOptions(temperature=0.0, max_tokens=256)
    text_bound = None  # it reads the last question alone, and how much of the answer there is
    max_videos = MAX_VIDEOS

    def segments(self, turns: Sequence[Turn], videos: Sequence[VideoTokens]) -> tuple[Segment, ...]:
        check_turns(turns)
        begun = turns[-1].text if turns[-1].role == "assistant" else ""
        asked = turns[-2 if begun else -1].text
        question = Tokens((BEGIN, *asked.encode(), EOS, *begun.encode()))
        zeros = (torch.zeros(len(video.tokens), dtype=torch.int64) for video in videos)
        softs = (one_hot(each, VOCAB).float() for each in zeros)
        return (*(Soft(video.key, soft) for video, soft in zip(videos, softs, strict=True)), question)

    def encode(self, text: str) -> Sequence[int]:
        return list(text.encode())

    def decode(self, ids: Sequence[int]) -> str:
        return bytes(ids).decode(errors="replace")

    def token(self, number: int) -> TokenText:
        named = {EOS: "</s>", BEGIN: "<s>"}
        return TokenText(named[number], None) if number in named else TokenText.of(bytes([number]))


def create(files: "BackendFiles") -> EchoBackend:
    """Needs no file."""
    del files
    return EchoBackend()
