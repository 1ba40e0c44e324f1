"""An answer's tokens as the pieces that are sent: final text, and the log probabilities of its tokens."""

from typing import TYPE_CHECKING, Any

from server.engine.wire import Piece

if TYPE_CHECKING:
    from bt_model.chat import VideoChat
    from bt_model.generation.request import Delta, GenRequest
    from bt_model.types import GenerateOptions


class AnswerPieces:
    """Tokens wait for the text that they are part of; those of a stop string alone are not sent."""

    def __init__(self, request: "GenRequest", chat: "VideoChat", options: "GenerateOptions") -> None:
        self._id = request.id
        self._num_prompt, self._num_new = request.num_prompt_tokens, 0
        self._backend = chat.backend
        self._text = chat.text_stream(options, request.before)
        self._waiting: list[list[Any]] = []

    @property
    def stopped(self) -> bool:
        """Whether a stop string came."""
        return self._text.stopped

    def push(self, delta: "Delta") -> Piece | None:
        """What is final with these tokens."""
        for number, logprobs in zip(delta.token_ids, delta.logprobs, strict=False):  # none if nobody asked
            top = [self._entry(*each) for each in logprobs.top]
            self._waiting.append([*self._entry(number, logprobs.chosen), top])
        self._num_new += len(delta.token_ids)
        text = self._text.push(delta.token_ids)
        return self._piece(text) if text else None

    def finish(self) -> Piece | None:
        """What was held back, after the last token."""
        text = self._text.finish()
        return self._piece(text) if text or (self._waiting and not self.stopped) else None

    def _piece(self, text: str) -> Piece:
        waiting, self._waiting = self._waiting, []
        return Piece(self._id, text, waiting, self._num_prompt, self._num_new)

    def _entry(self, number: int, logprob: float) -> list[Any]:
        token = self._backend.token(number)
        return [token.text, token.data, logprob]
