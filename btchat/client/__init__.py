"""The Python client: typed, thin over httpx, the same in a thread and in an event loop.

What to send and what to make of the answer is decided once, in plans (`plans`, `routes`, `sending`); the two
clients only carry it out. Nothing of a server or a model is imported here.
"""

from btchat.client.answers import AnswerNote, ChatAnswer, ChatChoices, ChoiceError, TextDelta
from btchat.client.asynchronous import AsyncClient
from btchat.client.errors import BtchatAPIError, BtchatConnectionError, BtchatResponseError
from btchat.client.estimates import VideoEstimate
from btchat.client.objects import (
    DeletedUpload,
    FramePicture,
    FrameSet,
    ModelInfo,
    RemovedFiles,
    ServerReady,
    ServerVersion,
    TokenUsage,
    UploadPage,
    VideoUpload,
)
from btchat.client.receipts import Receipt
from btchat.client.streams import AsyncChatStream, ChatStream
from btchat.client.synchronous import Client
from btchat.client.token_array import TokenArray

__all__ = [
    "AnswerNote",
    "AsyncChatStream",
    "AsyncClient",
    "BtchatAPIError",
    "BtchatConnectionError",
    "BtchatResponseError",
    "ChatAnswer",
    "ChatChoices",
    "ChatStream",
    "ChoiceError",
    "Client",
    "DeletedUpload",
    "FramePicture",
    "FrameSet",
    "ModelInfo",
    "Receipt",
    "RemovedFiles",
    "ServerReady",
    "ServerVersion",
    "TextDelta",
    "TokenArray",
    "TokenUsage",
    "UploadPage",
    "VideoEstimate",
    "VideoUpload",
]
