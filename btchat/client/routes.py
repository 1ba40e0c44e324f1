"""The plan of everything that a client can ask of a server."""

import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast
from urllib.parse import quote

import httpx

from bt_model.errors import InvalidValueError
from btchat.client.answers import AnswerReader, ChatAnswer, ChatChoices
from btchat.client.errors import BtchatAPIError, BtchatConnectionError, BtchatResponseError
from btchat.client.estimates import VideoEstimate
from btchat.client.local_video import LocalVideo, UploadSource
from btchat.client.objects import (
    DeletedUpload,
    FrameSet,
    ModelInfo,
    ModelList,
    ServerReady,
    ServerVersion,
    UploadPage,
    VideoUpload,
)
from btchat.client.options import Dialogue, ModelNames, SamplingOptions, Video
from btchat.client.plans import Call, Plan, wait
from btchat.client.sending import Retries, parsed
from btchat.client.token_array import TokenArray
from btchat.client.upload_state import UploadStates
from btchat.client.uploads import PATH, OnProgress, Upload

_CHAT, _OPENAI = "/v1/video/chat", "/v1/chat/completions"
_READY_SECONDS = 0.25
_UNAVAILABLE = 503
_NO_OPTIONS = frozenset({"on_stage", "extra_body"})


@dataclass(frozen=True, slots=True)
class Routes:
    """Plans, by the names of a client's methods."""

    retries: Retries
    states: UploadStates

    def upload(
        self, source: UploadSource, filename: str | None, on_progress: OnProgress | None, resumable: bool
    ) -> Plan[VideoUpload]:
        video = LocalVideo.of(source)
        name = video.name if filename is None else filename
        report = on_progress or (lambda _sent, _total: None)
        return (yield from Upload(video, name, self.retries, self.states, report, resumable).run())

    def page(self, after: str | None, limit: int, order: Literal["asc", "desc"]) -> Plan[UploadPage]:
        query = {"limit": limit, "order": order} | ({"after": after} if after else {})
        return (yield from self.retries.read(Call("GET", PATH, query), UploadPage.model_validate_json))

    def get(self, video: str) -> Plan[VideoUpload]:
        return (
            yield from self.retries.read(Call("GET", _path(PATH, video)), VideoUpload.model_validate_json)
        )

    def delete(self, video: str, keep: Literal["tokens"] | None) -> Plan[DeletedUpload]:
        call = Call("DELETE", _path(PATH, video), {} if keep is None else {"keep": keep})
        return (yield from self.retries.read(call, DeletedUpload.model_validate_json))

    def frames(self, video: Video, sampling: SamplingOptions | None, model: str | None) -> Plan[FrameSet]:
        body = yield from self._body(video, sampling, model)
        call = Call("POST", "/v1/video/frames", json=body)
        return (yield from self.retries.read(call, FrameSet.model_validate_json))

    def tokens(self, video: Video, sampling: SamplingOptions | None, model: str | None) -> Plan[TokenArray]:
        body = (yield from self._body(video, sampling, model)) | {"format": "safetensors"}
        response = yield from self.retries.sent(Call("POST", "/v1/video/tokens", json=body))
        facts = response.headers
        return TokenArray(
            response.content,
            tuple(int(size) for size in facts.get("x-btchat-shape", "").split(",") if size),
            facts.get("x-btchat-dtype", ""),
            facts.get("x-btchat-fingerprint", ""),
            tuple(json.loads(facts.get("x-btchat-warnings", "[]"))),
        )

    def estimate(
        self,
        video: Video,
        messages: Dialogue | None,
        sampling: SamplingOptions | None,
        model: str | None,
        max_tokens: int | None,
    ) -> Plan[VideoEstimate]:
        body = yield from self._body(video, sampling, model)
        body |= {} if messages is None else {"messages": _dialogue(messages)}
        body |= {} if max_tokens is None else {"max_tokens": max_tokens}
        call = Call("POST", "/v1/video/estimate", json=body)
        return (yield from self.retries.read(call, VideoEstimate.model_validate_json))

    def chat(
        self,
        messages: Dialogue,
        video: Video | None,
        model: str | ModelNames | None,
        is_stream: bool,
        options: Mapping[str, Any],
    ) -> Plan[httpx.Response]:
        """The response, of a stream before its body is read; without a video OpenAI's route answers."""
        given = {k: v for k, v in options.items() if k not in _NO_OPTIONS and v is not None}
        body: dict[str, Any] = {"messages": _dialogue(messages), **given, "stream": is_stream}
        body |= {} if model is None else {"model": list(model) if isinstance(model, tuple) else model}
        if video is not None:
            body["video"] = yield from self._id(video)
        else:  # OpenAI's clients have to name a model
            if model is None and (known := (yield from self.models())):
                body["model"] = known[0].id
            body |= {"stream_options": {"include_usage": True}} if is_stream else {}
        body |= options.get("extra_body", {})
        path = _OPENAI if video is None else _CHAT
        return (yield from self.retries.sent(Call("POST", path, json=body, is_stream=is_stream)))

    def models(self) -> Plan[tuple[ModelInfo, ...]]:
        call = Call("GET", "/v1/models")
        return (yield from self.retries.read(call, ModelList.model_validate_json)).data

    def model(self, name: str) -> Plan[ModelInfo]:
        call = Call("GET", f"/v1/models/{quote(name)}")
        return (yield from self.retries.read(call, ModelInfo.model_validate_json))

    def version(self) -> Plan[ServerVersion]:
        return (yield from self.retries.read(Call("GET", "/version"), ServerVersion.model_validate_json))

    def metrics(self) -> Plan[str]:
        return (yield from self.retries.sent(Call("GET", "/metrics"))).text

    def ready(self, seconds: float) -> Plan[ServerReady]:
        """Ask again for so many seconds, also while nobody listens yet."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                response = yield from Retries(0).sent(Call("GET", "/health/ready"))
                return parsed(response, ServerReady.model_validate_json)
            except (BtchatConnectionError, BtchatAPIError) as error:
                passes = isinstance(error, BtchatConnectionError) or error.status == _UNAVAILABLE
                if not passes or time.monotonic() + _READY_SECONDS > deadline:
                    raise
            yield from wait(_READY_SECONDS)

    def _body(
        self, video: Video, sampling: SamplingOptions | None, model: str | None
    ) -> Plan[dict[str, Any]]:
        given = {"sampling": sampling, "model": model}
        chosen = {name: value for name, value in given.items() if value is not None}
        return {"video": (yield from self._id(video)), **chosen}

    def _id(self, video: Video) -> Plan[str]:
        """A file is uploaded; the server is only asked whether it has it where it does."""
        if isinstance(video, str):
            return video
        if isinstance(video, os.PathLike):
            return (yield from self.upload(video, None, None, True)).id
        return video.id


def whole_answers(response: httpx.Response) -> ChatChoices:
    """The answers of a response that is no stream.

    Raises:
        BtchatResponseError: they cannot be read.
    """
    reader = AnswerReader(response.headers.get("x-request-id"))
    try:
        reader.whole(response.json())
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise BtchatResponseError(f"the answer cannot be read: {response.text[:80]!r}") from error
    return reader.choices()


def as_asked(choices: ChatChoices, model: str | ModelNames | None) -> ChatAnswer | ChatChoices:
    """One model's answer, or those of a list."""
    return choices if isinstance(model, list | tuple) else choices.answers[0]


def _dialogue(messages: Dialogue) -> list[dict[str, Any]]:
    if isinstance(messages, str):
        return [{"role": "user", "content": messages}]
    return [cast(dict[str, Any], dict(each)) for each in messages]


def _path(parent: str, name: str) -> str:
    """Raises InvalidValueError: no id, which as part of a path would lead elsewhere."""
    if not name.isascii() or not name.replace("-", "_").isidentifier():
        raise InvalidValueError(f"video is {name[:80]!r}; allowed: the id of an upload, vid_…", param="video")
    return f"{parent}/{name}"
