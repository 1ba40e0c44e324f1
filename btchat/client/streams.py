"""Answers that come piece by piece, for threads and for event loops."""

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Generic, Self, TypeVar

import httpx

from btchat.client.answers import AnswerReader, ChatAnswer, ChatChoices, TextDelta
from btchat.client.errors import BtchatConnectionError
from btchat.client.objects import TokenUsage
from btchat.client.receipts import Receipt

Item = TypeVar("Item")


class StreamedAnswers(Generic[Item]):
    """Answers while they come; what is known of them only at the end is None until then.

    `show` makes of a delta what iteration gives: its text, or, of several models, the delta itself.
    """

    def __init__(
        self,
        response: httpx.Response,
        show: Callable[[TextDelta], Item],
        on_stage: Callable[[str], object] | None,
    ) -> None:
        self._is_closed = False
        self._response = response
        self._show = show
        self._on_stage = on_stage
        self._reader = AnswerReader(response.headers.get("x-request-id"))

    def _broken(self, error: httpx.TransportError) -> BtchatConnectionError:
        return BtchatConnectionError.of(error, str(self._response.url))

    def _items(self, line: str) -> list[Item]:
        """What one line of the stream gives."""
        before = self._reader.stage
        deltas = self._reader.feed(line)
        if self._on_stage is not None and self._reader.stage != before:
            self._on_stage(self._reader.stage)
        return [self._show(delta) for delta in deltas]

    @property
    def text(self) -> str:
        """All text so far, of the first model."""
        return self._reader.text

    @property
    def answer(self) -> ChatAnswer:
        """The answer so far, of the first model. Raises IndexError before it has begun."""
        return self.choices.answers[0]

    @property
    def choices(self) -> ChatChoices:
        """All models' answers so far."""
        return self._reader.choices()

    @property
    def receipt(self) -> Receipt | None:
        return self.answer.receipt

    @property
    def usage(self) -> TokenUsage | None:
        """Of all answers together."""
        return self.choices.usage


class ChatStream(StreamedAnswers[Item], Iterator[Item]):
    """Iterates over the text of an answer; closing it ends the work on the server."""

    def __init__(
        self,
        response: httpx.Response,
        show: Callable[[TextDelta], Item],
        on_stage: Callable[[str], object] | None,
    ) -> None:
        super().__init__(response, show, on_stage)
        self._content = self._read()

    def __next__(self) -> Item:
        """The next text.

        Raises:
            BtchatAPIError: the answer broke.
            BtchatConnectionError: the connection did.
        """
        if self._is_closed:
            raise StopIteration
        return next(self._content)

    def _read(self) -> Iterator[Item]:
        try:
            for line in self._response.iter_lines():
                yield from self._items(line)
        except httpx.TransportError as error:
            raise self._broken(error) from error
        finally:
            self._response.close()
        self._reader.require_done()

    def close(self) -> None:
        self._is_closed = True
        self._response.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()


class AsyncChatStream(StreamedAnswers[Item], AsyncIterator[Item]):
    """The same for an event loop."""

    def __init__(
        self,
        response: httpx.Response,
        show: Callable[[TextDelta], Item],
        on_stage: Callable[[str], object] | None,
    ) -> None:
        super().__init__(response, show, on_stage)
        self._content = self._read()

    async def __anext__(self) -> Item:
        """The next text. Raises as a ChatStream."""
        if self._is_closed:
            raise StopAsyncIteration
        return await anext(self._content)

    async def _read(self) -> AsyncIterator[Item]:
        try:
            async for line in self._response.aiter_lines():
                for item in self._items(line):
                    yield item
        except httpx.TransportError as error:
            raise self._broken(error) from error
        finally:
            await self._response.aclose()
        self._reader.require_done()

    async def close(self) -> None:
        self._is_closed = True
        await self._response.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.close()


def text_of(delta: TextDelta) -> str:
    return delta.text


def delta_itself(delta: TextDelta) -> TextDelta:
    return delta
