"""The client for event loops, asyncio's and trio's."""

from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Literal, Self, Unpack, overload

import anyio
import anyio.to_thread
import httpx

from btchat.client.address import Address
from btchat.client.answers import ChatAnswer, ChatChoices, TextDelta
from btchat.client.errors import BtchatConnectionError
from btchat.client.estimates import VideoEstimate
from btchat.client.local_video import UploadSource
from btchat.client.objects import (
    DeletedUpload,
    FrameSet,
    ModelInfo,
    ServerReady,
    ServerVersion,
    UploadPage,
    VideoUpload,
)
from btchat.client.options import ChatOptions, Dialogue, ModelNames, SamplingOptions, Video
from btchat.client.plans import Blocking, Blocks, Call, Delay, NextStep, Plan, Returned, T, advance
from btchat.client.routes import Routes, as_asked, whole_answers
from btchat.client.sending import Retries
from btchat.client.streams import AsyncChatStream, delta_itself, text_of
from btchat.client.token_array import TokenArray
from btchat.client.upload_state import UploadStates, default_folder
from btchat.client.uploads import OnProgress


class AsyncClient:
    """A server, for an event loop.

    Args:
        base_url: of the server (default: BTCHAT_URL, or http://127.0.0.1:8000)
        api_key: (default: BTCHAT_API_KEY)
        timeout: seconds that an answer may pause
        max_retries: how often a request is sent again, after a broken connection or as a refusal says
        state_dir: where unfinished uploads are remembered (default: in the user's caches)
        transport: of httpx, for other certificates, sockets and tests
    """

    def __init__(
        self,
        base_url: str | None = None,
        *,
        api_key: str | None = None,
        timeout: float = 600.0,
        max_retries: int = 2,
        state_dir: Path | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        address = Address.of(base_url, api_key)
        self.base_url = address.url
        states = UploadStates(state_dir or default_folder(), address.owner)
        self._routes = Routes(Retries(max_retries), states)
        self._http = httpx.AsyncClient(
            base_url=address.url,
            headers=address.headers(),
            timeout=address.timeouts(timeout),
            trust_env=not address.is_local,
            transport=transport,
        )

    async def upload(
        self,
        video: UploadSource,
        *,
        filename: str | None = None,
        on_progress: OnProgress | None = None,
        resumable: bool = True,
    ) -> VideoUpload:
        """Store a video: the path of a file, bytes, or an open binary file.

        A video that the server has from this key is not sent again. A long one goes in pieces: after a broken
        connection it goes on by itself, and after the end of this process, when it is uploaded again.

        Raises:
            BtchatAPIError: the server refused.
            BtchatConnectionError: the connection broke again and again.
            OSError: the file cannot be read.
        """
        return await self._run(self._routes.upload(video, filename, on_progress, resumable))

    async def list(
        self, *, after: str | None = None, limit: int = 20, order: Literal["asc", "desc"] = "desc"
    ) -> UploadPage:
        """A page of uploads, by default the newest first."""
        return await self._run(self._routes.page(after, limit, order))

    async def get(self, video: str) -> VideoUpload:
        """One upload, by its id."""
        return await self._run(self._routes.get(video))

    async def delete(self, video: str, *, keep: Literal["tokens"] | None = None) -> DeletedUpload:
        """Delete an upload and what was computed from it, or its file alone: then questions go on."""
        return await self._run(self._routes.delete(video, keep))

    async def ask(
        self, video: Video | None, question: str, *, model: str | None = None, **options: Unpack[ChatOptions]
    ) -> ChatAnswer:
        """Answer one question about a video; `chat` does more."""
        return await self.chat(question, video=video, model=model, **options)

    @overload
    async def chat(
        self,
        messages: Dialogue,
        *,
        video: Video | None = None,
        model: str | None = None,
        stream: Literal[False] = False,
        **options: Unpack[ChatOptions],
    ) -> ChatAnswer: ...

    @overload
    async def chat(
        self,
        messages: Dialogue,
        *,
        video: Video | None = None,
        model: str | None = None,
        stream: Literal[True],
        **options: Unpack[ChatOptions],
    ) -> AsyncChatStream[str]: ...

    @overload
    async def chat(
        self,
        messages: Dialogue,
        *,
        video: Video | None = None,
        model: ModelNames,
        stream: Literal[False] = False,
        **options: Unpack[ChatOptions],
    ) -> ChatChoices: ...

    @overload
    async def chat(
        self,
        messages: Dialogue,
        *,
        video: Video | None = None,
        model: ModelNames,
        stream: Literal[True],
        **options: Unpack[ChatOptions],
    ) -> AsyncChatStream[TextDelta]: ...

    async def chat(
        self,
        messages: Dialogue,
        *,
        video: Video | None = None,
        model: str | ModelNames | None = None,
        stream: bool = False,
        **options: Unpack[ChatOptions],
    ) -> ChatAnswer | ChatChoices | AsyncChatStream[str] | AsyncChatStream[TextDelta]:
        """Answer a question, or the last message of a dialogue, about a video or without one.

        With `stream` the text comes piece by piece. A list of models answers all at once.

        Raises:
            BtchatAPIError: the server refused.
            BtchatConnectionError: it cannot be reached, or the connection broke.
        """
        response = await self._run(self._routes.chat(messages, video, model, stream, options))
        if not stream:
            return as_asked(whole_answers(response), model)
        told = options.get("on_stage")
        if isinstance(model, list | tuple):
            return AsyncChatStream(response, delta_itself, told)
        return AsyncChatStream(response, text_of, told)

    async def frames(
        self, video: Video, *, sampling: SamplingOptions | None = None, model: str | None = None
    ) -> FrameSet:
        """Exactly the frames that the model sees, as JPEG files."""
        return await self._run(self._routes.frames(video, sampling, model))

    async def tokens(
        self, video: Video, *, sampling: SamplingOptions | None = None, model: str | None = None
    ) -> TokenArray:
        """The pooled tokens of a video."""
        return await self._run(self._routes.tokens(video, sampling, model))

    async def estimate(
        self,
        video: Video,
        messages: Dialogue | None = None,
        *,
        sampling: SamplingOptions | None = None,
        model: str | None = None,
        max_tokens: int | None = None,
    ) -> VideoEstimate:
        """What a question would take, and whether it fits, before anything is decoded."""
        return await self._run(self._routes.estimate(video, messages, sampling, model, max_tokens))

    async def models(self) -> tuple[ModelInfo, ...]:
        """All models of the server, the default first."""
        return await self._run(self._routes.models())

    async def model(self, name: str) -> ModelInfo:
        """One model."""
        return await self._run(self._routes.model(name))

    async def version(self) -> ServerVersion:
        """Versions of everything that affects an answer."""
        return await self._run(self._routes.version())

    async def metrics(self) -> str:
        """Prometheus' text."""
        return await self._run(self._routes.metrics())

    async def ready(self, wait: float = 0.0) -> ServerReady:
        """Wait up to so many seconds until the server answers questions. Raises what it said last."""
        return await self._run(self._routes.ready(wait))

    async def close(self) -> None:
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.close()

    async def _run(self, plan: Plan[T]) -> T:
        with closing(plan):
            step = advance(plan)
            while not isinstance(step, Returned):
                try:
                    outcome = await self._do(step)
                except BtchatConnectionError as error:
                    outcome = error
                step = advance(plan, outcome)
            return step.value

    async def _do(self, step: NextStep) -> object:
        match step:
            case Delay(seconds):
                return await anyio.sleep(seconds)
            case Blocking(run):
                return await anyio.to_thread.run_sync(run)
            case Call():
                return await self._send(step)

    async def _send(self, call: Call) -> httpx.Response:
        try:
            content = call.content and _told(call.content)
            request = self._http.build_request(**call.arguments(), content=content)
            response = await self._http.send(request, stream=True)
            if not (call.is_stream and response.is_success):
                await response.aread()
        except httpx.TransportError as error:
            raise BtchatConnectionError.of(error, self.base_url) from error
        return response


async def _told(content: Blocks) -> AsyncIterator[bytes]:
    blocks, sent = content.read(), 0
    while block := await anyio.to_thread.run_sync(next, blocks, b""):
        yield block
        sent += len(block)
        content.on_sent(sent)
