"""What is known of a batch and of the documents that it reads and writes."""

from dataclasses import dataclass, field
from typing import Any, Literal

DocumentPurpose = Literal["batch", "batch_output"]
DOCUMENT = "file-"
"""How the ids of documents begin; those of videos do not."""
Status = Literal[
    "validating", "failed", "in_progress", "finalizing", "completed", "expired", "cancelling", "cancelled"
]
ENDED: frozenset[Status] = frozenset({"failed", "completed", "expired", "cancelled"})
ENDPOINTS = ("/v1/chat/completions", "/v1/responses", "/v1/video/chat")
WINDOW_SECONDS = 86_400


@dataclass(frozen=True, slots=True)
class Document:
    """A file of JSON lines: requests that came, or answers that are given. Times are seconds since 1970."""

    id: str
    tenant: str
    filename: str
    purpose: DocumentPurpose
    num_bytes: int
    created_at: int
    expires_at: int | None


@dataclass(frozen=True, slots=True)
class Batch:
    """The requests of one document, and how far they are answered.

    `reached` has the time of each status that was reached, `errors` what is wrong with the document.
    """

    id: str
    tenant: str
    endpoint: str
    input_id: str
    output_id: str
    error_id: str
    status: Status
    created_at: int
    metadata: dict[str, str] = field(default_factory=dict[str, str])
    reached: dict[str, int] = field(default_factory=dict[str, int])
    errors: tuple[dict[str, Any], ...] = ()
    total: int = 0
    completed: int = 0
    failed: int = 0

    @property
    def expires_at(self) -> int:
        return self.created_at + WINDOW_SECONDS

    @property
    def documents(self) -> tuple[str, str, str]:
        """The ids of those that it reads and writes."""
        return self.input_id, self.output_id, self.error_id

    @property
    def is_ended(self) -> bool:
        return self.status in ENDED


@dataclass(frozen=True, slots=True)
class BatchRequest:
    """One line of a document: number from 1, and its text."""

    number: int
    text: str
