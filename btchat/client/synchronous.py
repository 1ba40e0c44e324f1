"""The client for threads."""

import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Literal, Self, Unpack, overload

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
from btchat.client.streams import ChatStream, delta_itself, text_of
from btchat.client.token_array import TokenArray
from btchat.client.upload_state import UploadStates, default_folder
from btchat.client.uploads import OnProgress


class Client:
    """A server, for threads; several may use one at the same time.

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
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        address = Address.of(base_url, api_key)
        self.base_url = address.url
        states = UploadStates(state_dir or default_folder(), address.owner)
        self._routes = Routes(Retries(max_retries), states)
        self._http = httpx.Client(
            base_url=address.url,
            headers=address.headers(),
            timeout=address.timeouts(timeout),
            trust_env=not address.is_local,
            transport=transport,
        )

    def upload(
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
        return self._run(self._routes.upload(video, filename, on_progress, resumable))

    def list(
        self, *, after: str | None = None, limit: int = 20, order: Literal["asc", "desc"] = "desc"
    ) -> UploadPage:
        """A page of uploads, by default the newest first."""
        return self._run(self._routes.page(after, limit, order))

    def get(self, video: str) -> VideoUpload:
        """One upload, by its id."""
        return self._run(self._routes.get(video))

    def delete(self, video: str, *, keep: Literal["tokens"] | None = None) -> DeletedUpload:
        """Delete an upload and what was computed from it, or its file alone: then questions go on."""
        return self._run(self._routes.delete(video, keep))

    def ask(
        self, video: Video | None, question: str, *, model: str | None = None, **options: Unpack[ChatOptions]
    ) -> ChatAnswer:
        """Answer one question about a video; `chat` does more."""
        return self.chat(question, video=video, model=model, **options)

    @overload
    def chat(
        self,
        messages: Dialogue,
        *,
        video: Video | None = None,
        model: str | None = None,
        stream: Literal[False] = False,
        **options: Unpack[ChatOptions],
    ) -> ChatAnswer: ...

    @overload
    def chat(
        self,
        messages: Dialogue,
        *,
        video: Video | None = None,
        model: str | None = None,
        stream: Literal[True],
        **options: Unpack[ChatOptions],
    ) -> ChatStream[str]: ...

    @overload
    def chat(
        self,
        messages: Dialogue,
        *,
        video: Video | None = None,
        model: ModelNames,
        stream: Literal[False] = False,
        **options: Unpack[ChatOptions],
    ) -> ChatChoices: ...

    @overload
    def chat(
        self,
        messages: Dialogue,
        *,
        video: Video | None = None,
        model: ModelNames,
        stream: Literal[True],
        **options: Unpack[ChatOptions],
    ) -> ChatStream[TextDelta]: ...

    def chat(
        self,
        messages: Dialogue,
        *,
        video: Video | None = None,
        model: str | ModelNames | None = None,
        stream: bool = False,
        **options: Unpack[ChatOptions],
    ) -> ChatAnswer | ChatChoices | ChatStream[str] | ChatStream[TextDelta]:
        """Answer a question, or the last message of a dialogue, about a video or without one.

        With `stream` the text comes piece by piece. A list of models answers all at once.

        Raises:
            BtchatAPIError: the server refused.
            BtchatConnectionError: it cannot be reached, or the connection broke.
        """
        response = self._run(self._routes.chat(messages, video, model, stream, options))
        if not stream:
            return as_asked(whole_answers(response), model)
        told = options.get("on_stage")
        if isinstance(model, list | tuple):
            return ChatStream(response, delta_itself, told)
        return ChatStream(response, text_of, told)

    def frames(
        self, video: Video, *, sampling: SamplingOptions | None = None, model: str | None = None
    ) -> FrameSet:
        """Exactly the frames that the model sees, as JPEG files."""
        return self._run(self._routes.frames(video, sampling, model))

    def tokens(
        self, video: Video, *, sampling: SamplingOptions | None = None, model: str | None = None
    ) -> TokenArray:
        """The pooled tokens of a video."""
        return self._run(self._routes.tokens(video, sampling, model))

    def estimate(
        self,
        video: Video,
        messages: Dialogue | None = None,
        *,
        sampling: SamplingOptions | None = None,
        model: str | None = None,
        max_tokens: int | None = None,
    ) -> VideoEstimate:
        """What a question would take, and whether it fits, before anything is decoded."""
        return self._run(self._routes.estimate(video, messages, sampling, model, max_tokens))

    def models(self) -> tuple[ModelInfo, ...]:
        """All models of the server, the default first."""
        return self._run(self._routes.models())

    def model(self, name: str) -> ModelInfo:
        """One model."""
        return self._run(self._routes.model(name))

    def version(self) -> ServerVersion:
        """Versions of everything that affects an answer."""
        return self._run(self._routes.version())

    def metrics(self) -> str:
        """Prometheus' text."""
        return self._run(self._routes.metrics())

    def ready(self, wait: float = 0.0) -> ServerReady:
        """Wait up to so many seconds until the server answers questions. Raises what it said last."""
        return self._run(self._routes.ready(wait))

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def _run(self, plan: Plan[T]) -> T:
        with closing(plan):
            step = advance(plan)
            while not isinstance(step, Returned):
                try:
                    outcome = self._do(step)
                except BtchatConnectionError as error:
                    outcome = error
                step = advance(plan, outcome)
            return step.value

    def _do(self, step: NextStep) -> object:
        match step:
            case Delay(seconds):
                return time.sleep(seconds)
            case Blocking(run):
                return run()
            case Call():
                return self._send(step)

    def _send(self, call: Call) -> httpx.Response:
        try:
            content = call.content and _told(call.content)
            request = self._http.build_request(**call.arguments(), content=content)
            response = self._http.send(request, stream=True)
            if not (call.is_stream and response.is_success):
                response.read()
        except httpx.TransportError as error:
            raise BtchatConnectionError.of(error, self.base_url) from error
        return response


def _told(content: Blocks) -> Iterator[bytes]:
    sent = 0
    for block in content.read():
        yield block
        sent += len(block)
        content.on_sent(sent)
