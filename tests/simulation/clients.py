"""Clients: they send requests to the routes, may leave or read slowly, and check what they get."""

import asyncio
import base64
import json
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

from fastapi.responses import Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.types import Receive, Scope, Send

from bt_model.errors import BtchatError
from bt_model.types import Sampling
from server.bodies.chat import ChatBody
from server.bodies.openai import CompletionBody
from server.bodies.own import TokensBody, VideoBody
from server.deps import RequestContext
from server.middleware.door import Door
from server.middleware.inline import InlineVideos
from server.middleware.stack import request_costs
from server.problems import Problem, problem_of
from server.routes import chat, frames, uploads
from server.settings import Settings
from server.uploads.sources import Inline
from tests.simulation.answers import Expected, check_stream, check_whole
from tests.simulation.decoder import video_text
from tests.simulation.draws import Draws
from tests.simulation.engine import FIRST, REFUSED_FRAMES, tokens_text
from tests.simulation.ledger import (
    CONTENTS,
    DIGESTS,
    PROMPT_SECONDS,
    Upload,
    Visit,
)
from tests.simulation.loop import TICK, PowerCut
from tests.simulation.plan import FOREVER, NUM_BROKEN, NUM_CONTENTS, Action
from tests.simulation.rest import Rest

if TYPE_CHECKING:
    from tests.simulation.world import World

_FORESEEN = (BtchatError, HTTPException, TimeoutError)
_GONE_SECONDS = 0.5
_SLOW_SECONDS = 15.0
_MAX_JSON_BYTES = 1 << 20
_COSTS = request_costs(Settings())
_PATHS = {
    "upload": "/v1/video/uploads",
    "ask": "/v1/video/chat",
    "part": "/v1/video/chat",
    "complete": "/v1/chat/completions",
    "frames": "/v1/video/frames",
    "tokens": "/v1/video/tokens",
}
_METHODS = {"delete": "DELETE", "forget": "DELETE", "show": "GET", "list": "GET", "pry": "GET"}
_ABOUT_UPLOADS = {"ask", "part", "delete", "forget", "show", "frames", "tokens"}


class Client:
    """One request."""

    def __init__(self, world: "World", action: Action) -> None:
        self.world = world
        self.action = action
        self.deed = action.deed
        self.draws = Draws(world.plan.seed, 2, action.number)
        self.visit = Visit(action, world.loop.time())
        self._gone: asyncio.Future[None] = world.loop.create_future()
        self._body: list[bytes] = []
        self._request: Request
        self._expected: Expected

    @property
    def name(self) -> str:
        return f"#{self.action.number}"

    async def run(self) -> None:
        """Send the request and look at the answer; whatever is wrong is told to the world."""
        world, action = self.world, self.action
        world.ledger.visits[action.number] = self.visit
        world.ledger.num_requests += 1
        if action.patience < FOREVER:
            world.loop.call_later(action.patience, self._leave)
        if action.deed in _ABOUT_UPLOADS and self._find() is None:
            self.deed = "upload"
        outcome = "left"
        try:
            outcome = await self._through_door(getattr(self, f"_{self.deed}"))
        except ClientDisconnect:
            pass
        except _FORESEEN as error:
            outcome = self._judge(problem_of(error))
        except PowerCut:
            world.lose_power()
        except Exception as error:  # noqa: BLE001 - a finding, whatever it is
            world.find("unexpected error", f"{self.name}: {type(error).__name__}: {error}")
        finally:
            world.ledger.leave(self.visit)
        world.trace.add(action.tenant, f"{self.name} {self.deed}: {outcome}")
        seconds = world.loop.time() - self.visit.begin
        if seconds > _SLOW_SECONDS and not world.ledger.is_troubled(self.visit.begin, world.loop.time()):
            world.find("a slow request", f"{self.name}: {seconds:.1f} s")
        if outcome == "left":
            world.watch_left(self)

    async def _through_door(self, deed: Callable[[], Awaitable[str]]) -> str:
        """What becomes of a request that the door lets in, or the refusal of one that it does not."""
        outcomes: list[str] = []
        sent: list[MutableMapping[str, Any]] = []

        async def inside(scope: Scope, receive: Receive, _send: Send) -> None:
            self._request = Request(scope, receive)
            Rest(self.world).check_limits()
            outcomes.append(await deed())

        async def send(message: MutableMapping[str, Any]) -> None:
            sent.append(message)

        inner = InlineVideos(inside, paths={_PATHS["complete"]}, max_bytes=_MAX_JSON_BYTES)
        app = Door(inner, _COSTS)
        await app(self._scope(), self._receive, send)
        if outcomes:
            return outcomes[0]
        headers = dict(sent[0]["headers"])
        if not headers.get(b"retry-after", b"").isdigit():
            self.world.find("a refusal without Retry-After", self.name)
        error = json.loads(sent[1]["body"])["error"]
        return self._judge(Problem(sent[0]["status"], error["message"], code=error["code"]))

    def _leave(self) -> None:
        if not self._gone.done():
            self._gone.set_result(None)
            self.world.loop.call_later(_GONE_SECONDS, self._check_gone)

    def _check_gone(self) -> None:
        if (
            self.deed in {"ask", "complete"}
            and self.world.ledger.visits.get(self.action.number) is self.visit
        ):
            self.world.find("a request outlives its client", self.name)

    @property
    def has_left(self) -> bool:
        return self._gone.done()

    # --- what routes are given

    def _scope(self) -> dict[str, Any]:
        deed, tenant = self.deed, self.action.tenant
        headers: list[tuple[bytes, bytes]] = []
        if deed in {"upload", "complete"}:
            body = CONTENTS[self.action.which] if deed == "upload" else self._completion()
            headers = [(b"content-length", b"%d" % len(body))]
            size = 1 + self.draws.below(len(body))
            self._body = [body[:size], body[size:]]
        return {
            "type": "http",
            "method": _METHODS.get(deed, "POST"),
            "path": _PATHS.get(deed, "/v1/video/uploads/id"),
            "headers": headers,
            "state": {"services": self.world.services, "tenant": tenant},
        }

    async def _receive(self) -> dict[str, Any]:
        """The body in parts, then the word that the client has left, once it has."""
        if self._body:
            if self.draws.below(2):
                await asyncio.sleep(self.draws.between(0.0, 0.02))
            if not self.has_left:
                chunk = self._body.pop(0)
                return {"type": "http.request", "body": chunk, "more_body": bool(self._body)}
        await asyncio.shield(self._gone)
        return {"type": "http.disconnect"}

    def _find(self) -> Upload | None:
        """One of the tenant's uploads; seldom one that is deleted."""
        known = self.world.ledger.of(self.action.tenant)
        alive = known if self.draws.below(8) == 0 else [each for each in known if not each.is_begun]
        if self.deed == "part":  # of late ones, which nobody else may have
            alive = alive[-3:]
        self.visit.upload = alive[self.action.which % len(alive)] if alive else None
        return self.visit.upload

    @property
    def _upload_asked(self) -> Upload:
        assert self.visit.upload is not None
        return self.visit.upload

    def _sampling(self) -> dict[str, Any]:
        return {} if self.action.frames is None else {"num_frames": self.action.frames}

    # --- deeds: each returns what became of it in a few words

    async def _upload(self) -> str:
        world, action = self.world, self.action
        begin = world.loop.time()
        with world.ledger.sending(action):
            shown = await uploads.upload(self._request, Response(), world.services, action.tenant)
        if action.which >= NUM_CONTENTS - NUM_BROKEN:
            world.find("a broken video is accepted", self.name)
        upload = Upload(shown.id, action.tenant, action.which, world.expiry(begin))
        if wrong := world.ledger.store(upload, begin):
            world.find(wrong, f"{self.name}: {action.which} of {action.tenant}")
        return f"stored {action.which}"

    async def _delete(self) -> str:
        upload = self._upload_asked
        was_begun, upload.is_begun = upload.is_begun, True
        try:
            await uploads.delete_upload(upload.id, self.world.services, self.action.tenant)
        except BtchatError as error:
            if error.code == "video_not_found" and was_begun:
                return "was deleted"
            raise
        if not upload.is_deleted:
            upload.is_deleted, upload.deleted_at = True, self.world.loop.time()
        return f"deleted {upload.which}"

    async def _forget(self) -> str:
        """Delete the file, and keep the tokens."""
        upload = self._upload_asked
        upload.may_lack_pixels = True
        await uploads.delete_upload(upload.id, self.world.services, self.action.tenant, "tokens")
        if not self.world.ledger.sent[upload.tenant, upload.which]:
            upload.forgotten_at = self.world.loop.time()
        return f"forgot {upload.which}"

    async def _show(self) -> str:
        upload = self._upload_asked
        shown = await uploads.show_upload(upload.id, self._request, self.world.services, self.action.tenant)
        self._succeeds(upload)
        if shown.id != upload.id:
            self.world.find("another video is shown", self.name)
        return "shown"

    async def _pry(self) -> str:
        """Nobody sees what is another's."""
        others = [each for each in self.world.ledger.uploads if each.tenant != self.action.tenant]
        if not others:
            return "nothing to see"
        upload = others[self.action.which % len(others)]
        try:
            await uploads.show_upload(upload.id, self._request, self.world.services, self.action.tenant)
        except BtchatError as error:
            if error.code == "video_not_found":
                return "not seen"
            raise
        self.world.find("another tenant's upload is shown", self.name)
        return "seen"

    async def _list(self) -> str:
        world, tenant = self.world, self.action.tenant
        before = world.ledger.of(tenant)
        gone = {each.id for each in before if each.is_deleted}
        shown = await uploads.list_uploads(world.services, tenant, None, 1000, "asc")
        ids = {each.id for each in shown.data}
        if lost := [each for each in before if each.id not in ids and not world.ledger.may_be_gone(each)]:
            world.find("an acknowledged upload is lost", f"{self.name}: {lost[0].which} of {tenant}")
        if gone & ids:
            world.find("a deleted upload is listed", self.name)
        others = {each.id for each in world.ledger.uploads if each.tenant != tenant}
        if others & ids:
            world.find("another tenant's upload is listed", self.name)
        return f"{len(ids)} listed"

    async def _frames(self) -> str:
        upload = self._upload_asked
        action = self.action
        body = VideoBody(video=upload.id, model=action.models[0], sampling=self._sampling())  # pyright: ignore
        shown = await frames.show_frames(body, self._request, Response(), self.world.services, action.tenant)
        self._succeeds(upload)
        if self.visit.begin > upload.forgotten_at:
            self.world.find("forgotten pixels are shown", f"{self.name}: {upload.which} of {upload.tenant}")
        number = action.frames or FIRST.default_frames
        expected = [video_text(CONTENTS[upload.which], Sampling(), index) for index in range(number)]
        got = [base64.b64decode(each.image.split(",", 1)[1]).decode() for each in shown.frames]
        if got != expected:
            self.world.find("frames of another video", f"{self.name}: {got[:1]}, not {expected[:1]}")
        return f"{number} frames"

    async def _tokens(self) -> str:
        upload = self._upload_asked
        action = self.action
        body = TokensBody(video=upload.id, model=action.models[0], sampling=self._sampling())  # pyright: ignore
        response = await frames.show_tokens(body, self._request, self.world.services, action.tenant, "")
        self._succeeds(upload)
        assert isinstance(response, Response)
        expected = tokens_text(action.models[0], self._frames_of(upload.which))
        if bytes(response.body).decode() != expected:
            self.world.find("tokens of another video", f"{self.name}: {response.body!r}, not {expected}")
        return "tokens"

    async def _part(self) -> str:
        """Ask about a video, and delete it meanwhile."""

        async def delete() -> None:
            await asyncio.sleep(self.draws.between(0.0, 0.3))
            await self._delete()

        deletion = asyncio.create_task(delete())
        try:
            return await self._ask()
        finally:
            await deletion

    async def _ask(self) -> str:
        upload = self._upload_asked
        action = self.action
        names = list(action.models)
        body = ChatBody(
            video=upload.id,  # pyright: ignore[reportArgumentType] - as it comes
            model=names if len(names) > 1 else names[0],
            messages=[{"role": "user", "content": self.question}],  # pyright: ignore
            sampling=self._sampling(),  # pyright: ignore
            stream=action.is_stream,
        )
        expected = Expected(action.models, self._frames_of(upload.which), self.question, upload.id)
        async with AsyncExitStack() as lifetime:
            response = await chat.chat(body, self._context({}, lifetime))
            outcome = await self._read(response, expected)
        self._succeeds(upload)
        return outcome

    def _completion(self) -> bytes:
        """The body of a question to OpenAI's route: about nothing, an upload, or a video inside of it."""
        action = self.action
        content: list[dict[str, Any]] = [{"type": "text", "text": self.question}]
        frames, name = None, None
        kind = self.draws.below(3)
        upload = self._find() if kind else None
        if upload is not None:
            frames, name = self._frames_of(upload.which), upload.id
            content.append({"type": "video_url", "video_url": {"url": upload.id, **self._sampling()}})
        elif kind == 2:
            which = action.which % (NUM_CONTENTS - NUM_BROKEN)
            frames, name = self._frames_of(which), "inline"
            self.world.ledger.inlined.add((action.tenant, DIGESTS[which]))
            url = "data:video/mp4;base64," + base64.b64encode(CONTENTS[which]).decode()
            content.append({"type": "video_url", "video_url": {"url": url, **self._sampling()}})
        self._expected = Expected(action.models * action.choices, frames, self.question, name)
        body = {
            "model": action.models[0],
            "messages": [{"role": "user", "content": content}],
            "n": action.choices,
            "stream": action.is_stream,
        }
        return json.dumps(body).encode()

    async def _complete(self) -> str:
        body = CompletionBody.model_validate_json(await self._request.body())
        async with AsyncExitStack() as lifetime:
            context = self._context(self._request.scope["state"]["inline"], lifetime)
            response = await chat.complete(body, context)
            outcome = await self._read(response, self._expected)
        if self.visit.upload is not None:
            self._succeeds(self.visit.upload)
        return outcome

    def _context(self, inline: Mapping[str, Inline], lifetime: AsyncExitStack) -> RequestContext:
        return RequestContext(self._request, self.world.services, self.action.tenant, inline, lifetime)

    # --- answers

    @property
    def question(self) -> str:
        return f"q{self.action.number}"

    def _frames_of(self, which: int) -> str:
        return video_text(CONTENTS[which], Sampling(), self.action.frames or FIRST.default_frames)

    async def _read(self, response: Response, expected: Expected) -> str:
        """What an answer says; one that cannot be read to its end is as good as none."""
        if not self.action.is_stream:
            whole = json.loads(bytes(response.body))
            problems = [each["error"] for each in whole["choices"] if "error" in each]
            self._check(check_whole(whole, expected))
            return self._judged(problems) or "answered"
        events: list[str] = []
        reading = asyncio.create_task(self._read_stream(response.body_iterator, events))  # pyright: ignore
        await asyncio.wait({reading, self._gone}, return_when=asyncio.FIRST_COMPLETED)
        if not reading.done():  # as the response does it
            reading.cancel()
            await asyncio.wait({reading})
            raise ClientDisconnect
        reading.result()
        faults, problems = check_stream(events, expected)
        self._check(faults)
        return self._judged(problems) or "streamed"

    async def _read_stream(self, iterator: Any, events: list[str]) -> None:
        async for event in iterator:
            if event.data is not None:
                events.append(event.data)
            if self.action.pace:
                await asyncio.sleep(self.action.pace)

    def _check(self, faults: list[str]) -> None:
        for fault in faults:
            self.world.find("a wrong answer", f"{self.name}: {fault}")

    def _judged(self, problems: list[dict[str, Any]]) -> str:
        for problem in problems:
            self._judge(Problem(503, problem["message"], code=problem["code"], param=problem["param"]))
        return problems[0]["code"] if problems else ""

    def _succeeds(self, upload: Upload) -> None:
        """A request about it was answered."""
        if upload.is_deleted and self.visit.begin > upload.deleted_at:
            self.world.find("a deleted video answers", f"{self.name}: {upload.which} of {upload.tenant}")

    # --- refusals

    def _judge(self, problem: Problem) -> str:
        """Whether an error has a reason; returns its code."""
        world, code = self.world, problem.code
        now, begin = world.loop.time(), self.visit.begin
        if code == "storage_full" and self.deed == "delete" and world.disk.had_reserve:
            world.find("a full disk cannot be made emptier", f"{self.name}: {problem.detail}")
        elif code in {"overloaded", "rate_limited"}:
            self._judge_limit(problem, now - begin)
        elif not self._has_reason(code) and not world.ledger.is_explained(code, begin, now):
            world.find("an error without a reason", f"{self.name}: {code}: {problem.detail}")
        return code

    def _has_reason(self, code: str) -> bool:
        action, upload = self.action, self.visit.upload
        if code in {"video_not_found", "video_deleted"}:
            return upload is not None and self.world.ledger.may_be_gone(upload)
        if code == "pixels_forgotten":
            return upload is not None and upload.may_lack_pixels
        if code == "engine_restarted" and self.world.services.engine.has_given_up:
            return True
        if code == "features_missing":  # they went with an upload of the same bytes, and once more
            which = action.which if upload is None else upload.which
            return any(each.is_begun and each.which == which for each in self.world.ledger.of(action.tenant))
        if code == "invalid_value":
            return action.frames == REFUSED_FRAMES
        return (
            code == "undecodable_video"
            and self.deed == "upload"
            and action.which >= NUM_CONTENTS - NUM_BROKEN
        )

    def _judge_limit(self, problem: Problem, seconds: float) -> None:
        world, tenant = self.world, self.action.tenant
        if "wait for a decoder" in problem.detail:
            if not world.decoder.was_full:
                world.find("a refusal without a reason", f"{self.name}: {problem.detail}")
            return
        if seconds > PROMPT_SECONDS + TICK:
            world.find("a slow refusal", f"{self.name}: {problem.code} after {seconds:.3f} s")
        inside = world.ledger.inside_since(self.visit.begin)
        is_full = world.ledger.is_full_for(tenant, inside)
        has_reason = is_full if problem.code == "overloaded" else inside[tenant] > world.ledger.most_per_key
        if not has_reason:
            world.find("a refusal without a reason", f"{self.name}: {problem.code} with {dict(inside)}")
