"""Sending a video: not at all where the server has it, whole where it is short, else in pieces.

Pieces go by the protocol tus 1.0.0. What has come of one before the connection broke is kept by the server:
it is asked how much that is, and the rest follows, in this process or in another.
"""

import base64
from collections.abc import Callable
from dataclasses import dataclass

import httpx

from bt_model.errors import BtchatError
from btchat.client.errors import BtchatAPIError, BtchatConnectionError
from btchat.client.local_video import LocalVideo
from btchat.client.objects import UploadPage, VideoUpload
from btchat.client.plans import Blocks, Call, Plan, blocking, wait
from btchat.client.sending import Retries, backoff
from btchat.client.upload_state import UploadStates

OnProgress = Callable[[int, int], object]
"""Is told how many bytes of how many were sent."""

PATH = "/v1/video/uploads"
RESUMABLE = f"{PATH}/resumable"
WHOLE_BYTES = 8 * 1024 * 1024
"""Up to so many bytes a video is sent at once."""
PIECE_BYTES = 32 * 1024 * 1024
MOST_FAILURES = 8
"""Attempts without a byte of progress, about half a minute."""

_TUS = {"tus-resumable": "1.0.0"}
_PIECE = {**_TUS, "content-type": "application/offset+octet-stream"}
_NOT_FOUND, _CONFLICT, _LOCKED = 404, 409, 423
_GOES_ON = frozenset({408, _CONFLICT, _LOCKED, 429, 500, 502, 503, 504})


@dataclass(frozen=True, slots=True)
class Upload:
    """One video on its way to a server."""

    video: LocalVideo
    filename: str
    retries: Retries
    states: UploadStates
    on_progress: OnProgress
    is_resumable: bool = True

    def run(self) -> Plan[VideoUpload]:
        """The stored video, whose SHA-256 is that of what was sent.

        Raises:
            BtchatAPIError: the server refused.
            BtchatConnectionError: the connection broke again and again.
            BtchatError: the file changed while it was sent.
            OSError: it cannot be read.
        """
        sha256 = yield from blocking(self.video.sha256)
        stored = yield from self._known(sha256)
        if stored is None:
            in_pieces = self.is_resumable and self.video.num_bytes > WHOLE_BYTES
            stored = yield from (self._in_pieces(sha256) if in_pieces else self._whole(sha256))
        if stored.sha256 != sha256:  # left where it is: other bytes may have been there under this id before
            name = self.filename or "the video"
            raise BtchatError(f"{name} changed while it was sent; what came is {stored.id}; send it again")
        self.on_progress(self.video.num_bytes, self.video.num_bytes)
        return stored

    def _known(self, sha256: str) -> Plan[VideoUpload | None]:
        """What the server has under this hash with its pixels, which the same bytes bring back otherwise.

        A server that does not know the question answers otherwise.
        """
        call = Call("GET", PATH, query={"sha256": sha256, "limit": 1})
        try:
            page = yield from self.retries.read(call, UploadPage.model_validate_json)
        except BtchatAPIError as error:
            if error.status in (400, _NOT_FOUND):
                return None
            raise
        return next((each for each in page.data if each.sha256 == sha256 and each.pixels), None)

    def _whole(self, sha256: str) -> Plan[VideoUpload]:
        """In one request. Before another attempt the server is asked whether it has the video by now."""
        body = Blocks(self.video.num_bytes, self.video.blocks, self._sent_from(0))
        headers = {"content-type": "application/octet-stream"}
        call = Call("POST", PATH, {"filename": self.filename}, headers, content=body, can_repeat=False)
        for attempt in range(self.retries.most + 1):
            try:
                return (yield from self.retries.read(call, VideoUpload.model_validate_json))
            except BtchatConnectionError:
                if attempt == self.retries.most:
                    raise
            yield from wait(backoff(attempt))
            if (stored := (yield from self._known(sha256))) is not None:
                return stored
        raise AssertionError("the last attempt returns or raises")

    def _in_pieces(self, sha256: str) -> Plan[VideoUpload]:
        upload_id, offset = self.states.find(sha256) or "", 0
        failures, wants_offset = 0, bool(upload_id)
        while not upload_id or offset < self.video.num_bytes or wants_offset:
            try:
                if not upload_id:
                    upload_id, offset = (yield from self._begin()), 0
                    self.states.keep(sha256, upload_id)
                response = yield from self._step(upload_id, None if wants_offset else offset)
                wants_offset = False
                came = int(response.headers["upload-offset"])
                failures, offset = (0 if came > offset else failures), came
            except (BtchatConnectionError, BtchatAPIError) as error:
                failures += 1
                if not self._may_go_on(error, failures):
                    self._forget_refused(error, sha256)
                    raise
                if isinstance(error, BtchatAPIError) and error.status == _NOT_FOUND:
                    upload_id = ""  # it was too old
                else:
                    yield from wait(_pause(error, failures))
                wants_offset = bool(upload_id)
        self.states.forget(sha256)
        call = Call("GET", f"{PATH}/{upload_id}")
        return (yield from self.retries.read(call, VideoUpload.model_validate_json))

    def _begin(self) -> Plan[str]:
        """The id of a new upload, which is that of the later video."""
        name = base64.b64encode(self.filename.encode()).decode()
        headers = {**_TUS, "upload-length": str(self.video.num_bytes)}
        headers |= {"upload-metadata": f"filename {name}"} if name else {}
        response = yield from self.retries.sent(Call("POST", RESUMABLE, headers=headers))
        return httpx.URL(response.headers["location"]).path.rpartition("/")[2]

    def _step(self, upload_id: str, offset: int | None) -> Plan[httpx.Response]:
        """The next piece, or without an offset the question how much has come; both answers say it."""
        once, path = Retries(0), f"{RESUMABLE}/{upload_id}"
        if offset is None:
            return (yield from once.sent(Call("HEAD", path, headers=_TUS)))
        count = min(PIECE_BYTES, self.video.num_bytes - offset)
        body = Blocks(count, lambda: self.video.blocks(offset, count), self._sent_from(offset))
        headers = {**_PIECE, "upload-offset": str(offset)}
        return (yield from once.sent(Call("PATCH", path, headers=headers, content=body)))

    def _sent_from(self, offset: int) -> Callable[[int], object]:
        return lambda num_bytes: self.on_progress(offset + num_bytes, self.video.num_bytes)

    def _may_go_on(self, error: BtchatConnectionError | BtchatAPIError, failures: int) -> bool:
        if failures >= MOST_FAILURES:
            return False
        return isinstance(error, BtchatConnectionError) or error.status in {*_GOES_ON, _NOT_FOUND}

    def _forget_refused(self, error: BtchatConnectionError | BtchatAPIError, sha256: str) -> None:
        """What was refused for good is gone from the server, and begins anew; all else may go on later."""
        if isinstance(error, BtchatAPIError) and error.status not in _GOES_ON:
            self.states.forget(sha256)


def _pause(error: BtchatConnectionError | BtchatAPIError, failures: int) -> float:
    asked = error.retry_after if isinstance(error, BtchatAPIError) else None
    return backoff(failures - 1) if asked is None else asked
