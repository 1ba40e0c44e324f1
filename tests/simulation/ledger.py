"""What clients know: uploads that were acknowledged, requests under way, faults that explain an error."""

from collections import Counter, deque
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256

from tests.simulation.decoder import BROKEN, file_of, name_in
from tests.simulation.plan import NUM_BROKEN, NUM_CONTENTS, TENANTS, Action, Fault

MAX_REQUESTS = 24
MAX_PER_KEY = 12
KEPT = MAX_REQUESTS // (2 * len(TENANTS))  # requests of a tenant that always find room
REQUEST_SECONDS = 30.0
PROMPT_SECONDS = 0.1
"""A refusal takes no longer."""

_LATELY = 1.0
_AFTERMATH = 20.0  # seconds in which a fault may still be felt
CONTENTS = [
    file_of((BROKEN if number >= NUM_CONTENTS - NUM_BROKEN else b"clip") + b"-%d" % number)
    for number in range(NUM_CONTENTS)
]
DIGESTS = [sha256(content).hexdigest() for content in CONTENTS]
_EXPLAINED: dict[str, tuple[Fault, ...]] = {
    "engine_restarted": ("engine dies", "engine hangs", "engine does not start"),
    "not_ready": ("engine dies", "engine hangs", "engine does not start"),
    "engine_error": ("engine fails",),
    "features_missing": ("tokens evicted",),
    "undecodable_video": ("children die",),
    "decode_timeout": ("children hang",),
    "storage_failed": ("disk fails",),
    "storage_full": ("disk is full",),
    "timeout": ("answers stall", "engine hangs", "engine is slow", "children hang"),
}


@dataclass(slots=True, eq=False)
class Upload:
    """An upload that was acknowledged."""

    id: str
    tenant: str
    which: int
    expires_at: float
    is_begun: bool = False  # deleting it
    is_deleted: bool = False  # for certain
    deleted_at: float = 0.0
    may_lack_pixels: bool = False
    forgotten_at: float = float("inf")  # for certain, since nobody began to send them again


@dataclass(slots=True, eq=False)
class Visit:
    """A request from its first to its last moment."""

    action: Action
    begin: float
    upload: Upload | None = None

    @property
    def content(self) -> str:
        """What a decode child is at work on for it."""
        which = self.action.which if self.upload is None else self.upload.which
        return name_in(CONTENTS[which])

    @property
    def weight(self) -> int:
        return self.action.choices


@dataclass(slots=True, eq=False)
class Ledger:
    """The clients' side of a run."""

    now: Callable[[], float]
    has_keys: bool
    uploads: list[Upload] = field(default_factory=list[Upload])
    sent: Counter[tuple[str, int]] = field(default_factory=Counter[tuple[str, int]])  # at the moment
    visits: dict[int, Visit] = field(default_factory=dict[int, Visit])
    left: deque[tuple[float, Visit]] = field(default_factory=deque[tuple[float, Visit]])  # lately
    faults: list[tuple[float, float, Fault]] = field(default_factory=list[tuple[float, float, Fault]])
    inlined: set[tuple[str, str]] = field(default_factory=set[tuple[str, str]])
    step_seconds: float = 0.0  # by which the clock was set, either way, in all
    num_requests: int = 0

    def of(self, tenant: str) -> Sequence[Upload]:
        return [upload for upload in self.uploads if upload.tenant == tenant]

    def store(self, upload: Upload, begin: float) -> str:
        """Note that an upload, whose request began then, was acknowledged; what is wrong, if anything.

        The same bytes have the same id as long as it is there for certain.
        """
        same = [each for each in self.of(upload.tenant) if each.which == upload.which]
        for known in same:
            if known.id != upload.id and not self.may_be_gone(known):
                return "the same bytes have two ids"
            if known.id == upload.id:
                known.expires_at = max(known.expires_at, upload.expires_at)
                is_back = known.is_deleted and begin > known.deleted_at
                return "a deleted upload comes back" if is_back else ""
        self.uploads.append(upload)
        return ""

    @contextmanager
    def sending(self, action: Action) -> Generator[None]:
        """Somebody sends bytes, which brings them back where they were forgotten."""
        self.sent[action.tenant, action.which] += 1
        for upload in self.of(action.tenant):
            if upload.which == action.which:
                upload.forgotten_at = float("inf")
        try:
            yield
        finally:
            self.sent[action.tenant, action.which] -= 1

    def may_be_gone(self, upload: Upload) -> bool:
        return upload.is_begun or self.now() + self.step_seconds >= upload.expires_at - 1.5

    def is_explained(self, code: str, begin: float, end: float) -> bool:
        faults = _EXPLAINED.get(code, ())
        return any(
            fault in faults and since <= end and begin <= until + _AFTERMATH
            for since, until, fault in self.faults
        )

    @property
    def most_per_key(self) -> int:
        return MAX_PER_KEY if self.has_keys else MAX_REQUESTS

    def is_troubled(self, begin: float, end: float) -> bool:
        """Whether anything was wrong that makes requests slow."""
        return any(
            since <= end and begin <= until + _AFTERMATH
            for since, until, fault in self.faults
            if fault not in {"clock steps", "disk fails", "disk is full", "children die"}
        )

    def inside(self, before: float = float("inf")) -> Counter[str]:
        """What requests under way count, by tenant; of those that came before a moment."""
        counts: Counter[str] = Counter()
        for visit in self.visits.values():
            if visit.begin < before:
                counts[visit.action.tenant] += visit.weight
        return counts

    def leave(self, visit: Visit) -> None:
        """A request has ended."""
        del self.visits[visit.action.number]
        self.left.append((self.now(), visit))
        while self.left[0][0] < self.now() - _LATELY:
            self.left.popleft()

    def inside_since(self, begin: float) -> Counter[str]:
        """As `inside`, with those that have ended since then: they may have been in the way."""
        counts = self.inside()
        for end, visit in self.left:
            if end >= begin:
                counts[visit.action.tenant] += visit.weight
        return counts

    def is_full_for(self, tenant: str, counts: Counter[str]) -> bool:
        """Whether a request, counted among those inside, has no room: in all, or beside what is kept."""
        if not self.has_keys:
            return counts.total() > MAX_REQUESTS
        others = sum(max(counts[other], KEPT) for other in TENANTS if other != tenant)
        return counts[tenant] > KEPT and counts[tenant] + others > MAX_REQUESTS
