"""The bodies of /v1/batches."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field

from server.batches.records import ENDPOINTS, Batch
from server.bodies.described import ResponseBody
from server.bodies.own import Body, Ignored
from server.bodies.pages import Listed, ObjectPage

_Name = Annotated[str, Field(max_length=64)]
_Value = Annotated[str, Field(max_length=512)]


class BatchBody(Body):
    """A batch to begin."""

    input_file_id: Annotated[str, Field(max_length=64)]
    """a file of requests, one a line, with purpose batch"""
    endpoint: Annotated[str, Field(json_schema_extra={"enum": list(ENDPOINTS)})]
    """where they go"""
    completion_window: Literal["24h"]
    """always 24h"""
    metadata: Annotated[dict[_Name, _Value], Field(max_length=16)] | None = None
    """is sent back"""
    output_expires_after: Ignored = None


class BatchLineError(ResponseBody):
    """What is wrong with a line of the input."""

    code: str
    """a word for programs"""
    message: str
    """the same for people"""
    param: str | None
    """the field of the line"""
    line: int
    """its number, from 1"""


class BatchErrors(ResponseBody):
    """What is wrong with the input, up to 20 of its lines."""

    object: Literal["list"] = "list"
    """always list"""
    data: list[BatchLineError]
    """one for each line"""


class BatchCounts(ResponseBody):
    """How many requests there are, and what became of them."""

    total: int
    """lines of the input"""
    completed: int
    """that were answered, and stand in the output"""
    failed: int
    """that were refused or failed, and stand in the errors"""


class BatchObject(Listed):
    """A batch. Times are seconds since 1970."""

    id: str
    """of the batch"""
    object: Literal["batch"] = "batch"
    """always batch"""
    endpoint: str
    """where its requests go"""
    errors: BatchErrors | None
    """why it failed before it began"""
    input_file_id: str
    """its requests, one a line"""
    completion_window: Literal["24h"] = "24h"
    """what is not answered by then is not answered"""
    status: str
    """validating, failed, in_progress, finalizing, completed, expired, cancelling or cancelled"""
    output_file_id: str | None
    """its answers, once it has ended and there are any"""
    error_file_id: str | None
    """requests that failed, once it has ended and there are any"""
    created_at: int
    """when it was sent"""
    in_progress_at: int | None
    """when its input was read"""
    expires_at: int
    """when its time is over"""
    finalizing_at: int | None
    """when its last request was done"""
    completed_at: int | None
    """when all was written"""
    failed_at: int | None
    """when its input was refused"""
    expired_at: int | None
    """when its time was over"""
    cancelling_at: int | None
    """when its end was asked for"""
    cancelled_at: int | None
    """when nothing of it ran any more"""
    request_counts: BatchCounts
    """how far it is"""
    metadata: dict[str, str] | None
    """as it was sent"""

    @classmethod
    def of(cls, batch: Batch) -> Self:
        times: dict[str, Any] = {f"{name}_at": None for name in _TIMES}
        times |= {f"{name}_at": time for name, time in batch.reached.items()}
        errors = [BatchLineError(**error) for error in batch.errors]
        return cls(
            id=batch.id,
            endpoint=batch.endpoint,
            errors=BatchErrors(data=errors) if errors else None,
            input_file_id=batch.input_id,
            status=batch.status,
            output_file_id=batch.output_id if batch.is_ended and batch.completed else None,
            error_file_id=batch.error_id if batch.is_ended and batch.failed else None,
            created_at=batch.created_at,
            expires_at=batch.expires_at,
            request_counts=BatchCounts(total=batch.total, completed=batch.completed, failed=batch.failed),
            metadata=batch.metadata or None,
            **times,
        )


class BatchPage(ObjectPage[BatchObject]):
    """A page of batches, the newest first."""


_TIMES = ("in_progress", "finalizing", "completed", "failed", "expired", "cancelling", "cancelled")
