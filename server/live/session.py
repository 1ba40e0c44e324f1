"""One live session: it reads on while frames are worked on and questions answered."""

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from time import monotonic

from bt_model.errors import BtchatError, DecodeQueueFullError, InvalidValueError, VideoError
from server.admission import Admission
from server.bodies.live import (
    AudioChunk,
    LiveMessage,
    SessionConfig,
    VideoDone,
    VideoFrame,
    VideoQuery,
    error_message,
)
from server.live.frames import FrameQueue, SentFrame
from server.live.picture_data import picture_of
from server.live.questions import Questions
from server.live.talk import Talk
from server.live.window import SessionWindow
from server.metrics import FrameOutcome
from server.problems import BusyError, Problem, problem_of

_MOST_QUESTIONS = 4  # that have no answer yet
_RETRY_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class LiveClient:
    """Who speaks, and what he may: `stopping` is set when the server stops."""

    tenant: str
    talk: Talk
    admission: Admission
    idle_seconds: float
    stopping: asyncio.Event
    has_acks: bool = False


class LiveSession:
    """What breaks in it ends this session alone."""

    def __init__(self, client: LiveClient, window: SessionWindow, questions: Questions) -> None:
        self._client = client
        self._window = window
        self._questions = questions
        self._frames = FrameQueue(self._keep)
        self._begin = monotonic()
        self._num_queries = 0
        self._done = asyncio.Event()
        self._answers: set[asyncio.Task[None]] = set()
        self._broken: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def run(self) -> str:
        """Until the client is done, or the server stops, and all questions are answered; why it ended.

        Raises:
            WebSocketDisconnect: the client has left.
            BtchatError, HTTPException: why the session cannot go on.
        """
        stopping = self._client.stopping
        tasks = [self._start(each) for each in (self._frames.run(), self._read())]
        ends = [asyncio.create_task(each.wait()) for each in (self._done, stopping)]
        try:
            await asyncio.wait({self._broken, *ends}, return_when=asyncio.FIRST_COMPLETED)
            self._done.set()
            while self._answers and not self._broken.done():
                await asyncio.wait({self._broken, *self._answers}, return_when=asyncio.FIRST_COMPLETED)
            if self._broken.done():
                self._broken.result()
            return "stopping" if stopping.is_set() else "done"
        finally:
            self._frames.close()
            everything = {*tasks, *ends, *self._answers}
            for task in everything:
                task.cancel()
            await asyncio.wait(everything)
            self._window.give_up()

    def _start(self, work: Coroutine[object, object, None]) -> asyncio.Task[None]:
        """Work on something beside all else, whose failure ends the session."""
        task = asyncio.create_task(work)
        task.add_done_callback(self._look_at)
        return task

    def _look_at(self, task: asyncio.Task[None]) -> None:
        self._answers.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and not self._broken.done():
            self._broken.set_exception(error)
            self._broken.exception()  # is seen, also where the session ends of something else

    async def _read(self) -> None:
        """Take messages until the client leaves, though what comes after the last word changes nothing."""
        while True:
            try:
                async with asyncio.timeout(self._client.idle_seconds):
                    message = await self._client.talk.hear()
            except TimeoutError as error:
                if not self._answers:
                    raise silent(self._client.idle_seconds) from error
                continue
            if message is not None and not self._done.is_set():
                try:
                    await self._take(message)
                except (BtchatError, Problem) as error:
                    await self._client.talk.say(error_message(problem_of(error)))

    async def _take(self, message: LiveMessage) -> None:
        """Raises why a message is not taken, after which others are."""
        match message:
            case VideoFrame():
                await self._offer(message)
            case AudioChunk():
                self._window.counts["audio"] += 1
            case VideoQuery(text=text):
                self._ask(text)
            case VideoDone():
                self._done.set()
            case SessionConfig():
                text = "type is session.config; allowed: once, as the first message of a session"
                raise Problem(400, text, code="invalid_value", param="type")

    async def _offer(self, message: VideoFrame) -> None:
        number = self._window.counts["received"]
        self._window.counts["received"] += 1
        seconds = monotonic() - self._begin if message.seconds is None else message.seconds
        held = self._client.admission.hold(self._client.tenant)
        try:
            picture = picture_of(message.data)
            held.add(len(picture))
        except BtchatError as error:
            await self._account(number, "dropped" if isinstance(error, BusyError) else "failed", error)
            return
        late = self._frames.offer(SentFrame(number, seconds, picture, held))
        if late is not None:
            await self._account(late.number, "dropped")

    def _ask(self, text: str) -> None:
        if len(self._answers) == _MOST_QUESTIONS:
            raise BusyError(f"{_MOST_QUESTIONS} questions wait for an answer, no more fit", _RETRY_SECONDS)
        self._num_queries += 1
        window = self._window.asked(self._num_queries, self._frames.settled())
        self._answers.add(self._start(self._questions.answer(text, window)))

    async def _keep(self, frame: SentFrame) -> None:
        try:
            await self._window.keep(frame)
        except DecodeQueueFullError as error:
            await self._account(frame.number, "dropped", error)
        except (VideoError, InvalidValueError) as error:
            await self._account(frame.number, "failed", error)
        else:
            await self._account(frame.number, "kept")

    async def _account(self, number: int, outcome: FrameOutcome, error: BtchatError | None = None) -> None:
        """Count what became of a frame, and tell it where that is asked for, or is an error."""
        self._window.count(outcome)
        if error is not None:
            await self._client.talk.say({**error_message(problem_of(error)), "frame": number})
        if self._client.has_acks:
            await self._client.talk.say({"type": "video.frame.ack", "frame": number, "outcome": outcome})


def silent(seconds: float) -> Problem:
    """The end of a session whose client says nothing."""
    text = f"no message came for {seconds:g} seconds, the longest silence in a live session"
    return Problem(408, text, code="body_timeout")
