"""The whole model flow on one screen: frames -> pooled tokens -> prompt -> answer.

T frames, H height, W width, K pooled tokens, D width of the vision tower.
"""

import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from bt_model.errors import ContextLengthError, EngineError
from bt_model.generation.request import Delta, Engine, Finish, GenRequest, Soft, Tokens
from bt_model.grammar.grammars import Grammar, Grammars
from bt_model.grammar.vocabulary import Vocabulary
from bt_model.prompt.text_stream import CONTEXT, TextStream
from bt_model.types import GenerateOptions, ModelCard, Turn, VideoTokens
from bt_model.video.transform import normalise
from bt_model.vision.clip import hidden_states
from bt_model.vision.encoder import encode_shared
from bt_model.vision.pool import pooling

if TYPE_CHECKING:
    from torch import Tensor

    from bt_model.backends.base import Backend
    from bt_model.vision.encoder import TemporalEncoder


@dataclass(frozen=True, slots=True)
class VideoChat:
    """A loaded model. Holds no request state; `bt_model.assembly.load.load` makes one from disk."""

    encoder: "TemporalEncoder"
    backend: "Backend"
    card: ModelCard

    def encode(self, clips: "Tensor") -> "Tensor":
        """Frames of B clips (B, T, H, W, 3) uint8 -> pooled tokens (B, K, D).

        Raises:
            InvalidValueError: more frames than the branch can represent.
        """
        return encode_together([self], clips)[0]

    @torch.inference_mode()
    def states(self, frames: "Tensor") -> "Tensor":
        """Frames (T, H, W, 3) uint8 -> what `encode_states` starts from (R, T, 1 + P, D), for R states read.

        Each frame passes the trunk by itself: frames of other clips may be among them.
        """
        weight = self.encoder.tower.class_embedding
        pixels = normalise(frames.to(weight.device)).to(weight.dtype)
        states = hidden_states(self.encoder.tower, pixels[None], self.encoder.chat_reads)
        return torch.cat(list(states.values()))

    @torch.inference_mode()
    def encode_states(self, states: "Tensor") -> "Tensor":
        """What `states` made of a clip's frames -> its pooled tokens (K, D). Raises as `encode`."""
        features = self.encoder.chat_from_trunk([each[None] for each in states])
        return pooling(self.card.pooling).pool(features)[0]

    def request(
        self,
        turns: Sequence[Turn],
        videos: Sequence[VideoTokens],
        options: GenerateOptions,
        *,
        request_id: str,
        deadline: float | None = None,
        grammar: Grammar | None = None,
    ) -> GenRequest:
        """The engine's request for one answer; without `max_tokens` it may fill the context.

        `grammar` is that of the options' schema. It says where the answer ends, whatever `ignore_eos` is.

        Raises:
            InvalidValueError: turns in a wrong order or without text.
            ContextLengthError: the prompt leaves no room for an answer.
        """
        chosen = options.or_else(self.backend.defaults)
        goes_on = chosen.ignore_eos and grammar is None
        request = GenRequest(
            request_id,
            self.backend.segments(turns, videos),
            max_new_tokens=chosen.max_tokens or self.card.max_context,
            stop_token_ids=frozenset() if goes_on else self.backend.stop_token_ids,
            temperature=chosen.temperature or 0.0,
            top_p=1.0 if chosen.top_p is None else chosen.top_p,
            top_k=chosen.top_k or 0,
            min_p=chosen.min_p or 0.0,
            min_new_tokens=chosen.min_tokens or 0,
            logit_bias=chosen.logit_bias,
            presence_penalty=chosen.presence_penalty or 0.0,
            frequency_penalty=chosen.frequency_penalty or 0.0,
            repetition_penalty=1.0 if chosen.repetition_penalty is None else chosen.repetition_penalty,
            seed=chosen.seed,
            logprobs=chosen.logprobs is not None,
            top_logprobs=chosen.logprobs or 0,
            deadline=deadline,
            grammar=grammar,
        )
        before = _last_ids(request) if turns[-1].role == "assistant" else ()
        return replace(_within(request, self.card.max_context, options.max_tokens or 1), before=before)

    def grammars(self) -> Grammars:
        """Compiles the schemas that answers of this model are to follow."""
        backend = self.backend

        def data(number: int) -> bytes | None:
            return backend.token(number).data

        def vocabulary() -> Vocabulary:
            return Vocabulary.of(data, backend.lm.vocab_size, tuple(backend.stop_token_ids))

        return Grammars(vocabulary, backend.encode)

    def text_stream(self, options: GenerateOptions, before: Sequence[int] = ()) -> TextStream:
        """What turns the answer's token ids into text; the model's own stop strings hold but in JSON.

        `before` are the request's.
        """
        backend = self.backend
        own = () if options.schema else (*backend.defaults.stop, *backend.stop_strings)
        return TextStream(backend.decode, (*options.stop, *own), before)

    def answer(
        self, engine: Engine, turns: Sequence[Turn], videos: Sequence[VideoTokens], options: GenerateOptions
    ) -> Iterator[str]:
        """Stream one answer, piece by piece; closing the iterator cancels it.

        Raises:
            EngineError: the engine could not finish.
        """
        request = self.request(turns, videos, options, request_id=uuid.uuid4().hex)
        text = self.text_stream(options, request.before)
        try:
            for event in engine.submit(request).stream():
                match event:
                    case Delta(token_ids=ids):
                        if piece := text.push(ids):
                            yield piece
                        if text.stopped:
                            return
                    case Finish(reason="error", message=message):
                        raise EngineError(message)
                    case Finish():
                        if piece := text.finish():
                            yield piece
        finally:
            engine.cancel(request.id)


def _last_ids(request: GenRequest) -> tuple[int, ...]:
    """Enough of them that an id behind them is decoded as in the whole text."""
    last = request.segments[-1]
    return last.ids[-CONTEXT.stop :] if isinstance(last, Tokens) else ()


def _within(request: GenRequest, max_context: int, needed: int) -> GenRequest:
    """The same with no more new tokens than the context has room for; raises where `needed` do not fit."""
    num_prompt, num_video = request.num_prompt_tokens, request.num_video_tokens
    room = max_context - num_prompt
    if room < needed:
        raise ContextLengthError(
            f"the prompt has {num_prompt} tokens ({num_video} for {_videos(request)}) and {needed} are "
            f"to be generated; the context holds {max_context}",
            param="messages" if room < 1 else "max_tokens",
        )
    return replace(request, max_new_tokens=min(request.max_new_tokens, room))


def _videos(request: GenRequest) -> str:
    count = sum(isinstance(segment, Soft) for segment in request.segments)
    return "the video" if count <= 1 else f"{count} videos"


@torch.inference_mode()
def encode_together(chats: Sequence[VideoChat], clips: "Tensor") -> "list[Tensor]":
    """Frames of B clips (B, T, H, W, 3) uint8 -> each model's pooled tokens (B, K, D), in the order given.

    Models that hold the same tower share one pass through it; their frames have one size.

    Raises:
        InvalidValueError: more frames than one of the branches can represent.
    """
    tokens: dict[int, Tensor] = {}
    for tower in dict.fromkeys(chat.encoder.tower for chat in chats):
        weight = tower.class_embedding
        pixels = torch.stack([normalise(clip) for clip in clips.to(weight.device)]).to(weight.dtype)
        group = {number: chat for number, chat in enumerate(chats) if chat.encoder.tower is tower}
        features = encode_shared([chat.encoder for chat in group.values()], pixels)
        for (number, chat), each in zip(group.items(), features, strict=True):
            tokens[number] = pooling(chat.card.pooling).pool(each)
    return [tokens[number] for number in range(len(chats))]
