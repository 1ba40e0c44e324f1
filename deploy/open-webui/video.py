"""
title: Videos for btchat
description: Uploads the videos of a chat to btchat, names them in its questions, says which frames were seen.
required_open_webui_version: 0.12.0
version: 1.0.0
license: Apache-2.0
"""

# Open WebUI itself sends no videos. Import this as a function, set its valves, enable it for btchat's models.

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import httpx
from open_webui.models.files import Files
from open_webui.storage.provider import Storage
from pydantic import BaseModel, Field

_PIECE_BYTES = 1 << 20


class Filter:
    """Called by Open WebUI: `inlet` before a question is sent, `stream` for every chunk of the answer."""

    class Valves(BaseModel):
        """What an administrator sets."""

        priority: int = 0
        base_url: str = Field(
            "http://localhost:8000/v1", description="btchat, as Open WebUI's server reaches it"
        )
        api_key: str = Field("", description="the key of Open WebUI's connection to btchat, or nothing")
        seconds: float = Field(600, description="how long an upload may take")

    def __init__(self) -> None:
        self.valves = self.Valves()
        self._uploads: dict[str, str] = {}  # Open WebUI's id of a file -> btchat's

    async def inlet(self, body: dict[str, Any], __event_emitter__: Any = None) -> dict[str, Any]:
        """The question with the ids of all videos of the chat, which are no documents to be searched."""
        videos = [file for file in body.get("files") or [] if _is_video(file)]
        if not videos:
            return body
        found: list[str] = []
        async with self._client() as client:
            for each in videos:
                if not await self._is_there(client, each["id"]):
                    await _say(__event_emitter__, f"uploading {each.get('name') or 'a video'}", done=False)
                    self._uploads[each["id"]] = await self._upload(client, each["id"])
                found.append(self._uploads[each["id"]])
        for holder in (body, body.get("metadata") or {}):
            if holder.get("files"):
                holder["files"] = [file for file in holder["files"] if not _is_video(file)]
        return body | {"video": found[0] if len(found) == 1 else found}

    async def stream(self, event: dict[str, Any], __event_emitter__: Any = None) -> dict[str, Any]:
        """The chunk as it is; one with a receipt is told as a line above the answer."""
        for seen in (event.get("receipt") or {}).get("videos") or [event.get("receipt") or {}]:
            if times := (seen.get("frames") or {}).get("timestamps"):
                words = f"{len(times)} frames, from {times[0]:g} to {times[-1]:g} s"
                await _say(__event_emitter__, words, done=True)
        return event

    def _client(self) -> httpx.AsyncClient:
        headers = {"authorization": f"Bearer {self.valves.api_key}"} if self.valves.api_key else {}
        url = self.valves.base_url.rstrip("/")
        return httpx.AsyncClient(base_url=url, headers=headers, timeout=self.valves.seconds)

    async def _is_there(self, client: httpx.AsyncClient, file_id: str) -> bool:
        """Whether a file was uploaded, and has not expired since."""
        known = self._uploads.get(file_id)
        return known is not None and (await client.get(f"/video/uploads/{known}")).is_success

    async def _upload(self, client: httpx.AsyncClient, file_id: str) -> str:
        file = await Files.get_file_by_id(file_id)
        if file is None or not file.path:
            raise ValueError(f"Open WebUI has no file {file_id}; attach the video again")
        path = await anyio.to_thread.run_sync(Storage.get_file, file.path)
        answer = await client.post(
            "/video/uploads", params={"filename": file.filename}, content=_pieces(Path(path))
        )
        if answer.is_error:
            raise ValueError(answer.json()["error"]["message"])
        return answer.json()["id"]


def _is_video(file: dict[str, Any]) -> bool:
    meta = (file.get("file") or {}).get("meta") or {}
    return str(file.get("content_type") or meta.get("content_type") or "").startswith("video/")


async def _pieces(path: Path) -> AsyncIterator[bytes]:
    async with await anyio.open_file(path, "rb") as content:
        while piece := await content.read(_PIECE_BYTES):
            yield piece


async def _say(emit: Any, words: str, *, done: bool) -> None:
    if emit is not None:
        await emit({"type": "status", "data": {"description": words, "done": done}})
