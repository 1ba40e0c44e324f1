"""The bodies of /v1/files and /v1/uploads: OpenAI's names for the same uploads."""

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from fastapi.exceptions import RequestValidationError
from pydantic import Field, ValidationError

from server.batches.records import Document
from server.bodies.described import ResponseBody
from server.bodies.own import WHOLE, Body, FewErrors, Filename
from server.bodies.pages import Listed, ObjectPage
from server.bodies.uploads import RemovedObject
from server.features.ahead import READY, Readiness
from server.uploads.parts import MAX_PARTS
from server.uploads.rows import Pieces, StoredVideo, Terms

Purpose = Literal["user_data", "vision", "video", "assistants", "batch"]
ListedPurpose = Purpose | Literal["batch_output"]

FORM_FIELDS = ("purpose", "expires_after[anchor]", "expires_after[seconds]")
_MAX_ID = 64


class ExpiresAfter(Body):
    """When a file ends, but for those that the server deletes before."""

    anchor: Literal["created_at"]
    """always created_at"""
    seconds: Annotated[int, Field(ge=3600, le=2_592_000), WHOLE]
    """how long it is kept"""


class FileTerms(Body):
    """What a client says of a file: kept, and shown again; a file is a video for all purposes."""

    purpose: Purpose
    """is sent back; `batch` is for JSON lines, all others mean a video"""
    expires_after: ExpiresAfter | None = None
    """when it is deleted; not later than the server's own time"""

    def terms(self) -> Terms:
        return Terms(self.purpose, self.expires_after and self.expires_after.seconds)

    @classmethod
    def of_form(cls, texts: Mapping[str, str]) -> Self:
        """Raises RequestValidationError."""
        body: dict[str, object] = {"purpose": texts["purpose"]} if "purpose" in texts else {}
        prefix = "expires_after["
        expires = {name[len(prefix) : -1]: text for name, text in texts.items() if name.startswith(prefix)}
        if expires:
            seconds = expires.get("seconds", "")
            body["expires_after"] = expires | ({"seconds": int(seconds)} if seconds.isdecimal() else {})
        try:
            return cls.model_validate(body)
        except ValidationError as error:
            raise RequestValidationError(
                [{**each, "loc": ("body", *each["loc"])} for each in error.errors()]
            ) from error


class UploadBody(FileTerms):
    """A file that will come in parts; its type its bytes will tell."""

    bytes: Annotated[int, Field(ge=1), WHOLE]
    """the whole length"""
    filename: Filename
    """shown, never used as a path"""
    mime_type: Annotated[str, Field(max_length=255)]
    """changes nothing: the first bytes tell"""


class CompleteBody(Body):
    """The parts in their order in the file."""

    part_ids: Annotated[
        FewErrors[Annotated[str, Field(max_length=_MAX_ID)]], Field(min_length=1, max_length=MAX_PARTS)
    ]
    """the parts in their order in the file"""
    md5: Annotated[str, Field(pattern="^[0-9a-fA-F]{32}$")] | None = None
    """of the whole file, which is compared"""


class FileObject(Listed):
    """A video or a file of JSON lines, as OpenAI's clients read it."""

    id: str
    """`vid_…` of a video, which all routes take, `file-…` of JSON lines"""
    object: Literal["file"] = "file"
    """always file"""
    bytes: int
    """its length"""
    created_at: int
    """when it came, in seconds since 1970"""
    expires_at: int | None
    """when it will be deleted; null keeps it"""
    filename: str
    """as it was sent; shown, never used as a path"""
    purpose: str
    """as it was sent; `batch_output` of what a batch wrote"""
    status: Literal["uploaded", "processed", "error"]
    """uploaded while a video's tokens are made before anybody asks; error where its frames cannot be decoded;
    else processed"""
    status_details: str | None = None
    """what is wrong, where status is error"""
    sha256: str | None
    """of a video's bytes, in hexadecimal digits"""
    duration: float | None
    """seconds that a video plays"""

    @classmethod
    def of(cls, video: StoredVideo, readiness: Readiness = READY) -> Self:
        return cls(
            id=video.id,
            bytes=video.num_bytes,
            created_at=video.created_at,
            expires_at=video.expires_at,
            filename=video.filename,
            purpose=video.purpose,
            status="uploaded" if readiness.status == "processing" else readiness.status,
            status_details=readiness.reason,
            sha256=video.sha256,
            duration=video.facts.seconds,
        )

    @classmethod
    def of_document(cls, document: Document) -> Self:
        return cls(
            id=document.id,
            bytes=document.num_bytes,
            created_at=document.created_at,
            expires_at=document.expires_at,
            filename=document.filename,
            purpose=document.purpose,
            status="processed",
            sha256=None,
            duration=None,
        )


class FilePage(ObjectPage[FileObject]):
    """A page of files."""


class FileDeleted(ResponseBody):
    """The response to a deletion."""

    id: str
    """of the file that is gone"""
    object: Literal["file"] = "file"
    """always file"""
    deleted: Literal[True] = True
    """always true"""
    removed: RemovedObject
    """what is gone"""


class UploadObject(ResponseBody):
    """An upload in parts."""

    id: str
    """of the upload; its file has an id of its own"""
    object: Literal["upload"] = "upload"
    """always upload"""
    bytes: int
    """the length that was announced"""
    created_at: int
    """when it began, in seconds since 1970"""
    expires_at: int | None
    """when it is given up unless a part comes"""
    filename: str
    """as it was announced"""
    purpose: str
    """as it was announced"""
    status: Literal["pending", "completed", "cancelled"]
    """whether parts are still to come"""
    file: FileObject | None = None
    """once it is complete"""

    @classmethod
    def of(cls, pieces: Pieces, expires_at: int, status: Literal["pending", "cancelled"]) -> Self:
        return cls(
            id=pieces.id,
            bytes=pieces.num_bytes,
            created_at=pieces.created_at,
            expires_at=expires_at,
            filename=pieces.filename,
            purpose=pieces.purpose,
            status=status,
        )

    @classmethod
    def completed(cls, upload_id: str, video: StoredVideo, readiness: Readiness = READY) -> Self:
        file = FileObject.of(video, readiness)
        shown = file.model_dump(include={"bytes", "created_at", "expires_at", "filename", "purpose"})
        return cls(id=upload_id, status="completed", file=file, **shown)


class PartObject(ResponseBody):
    """A part that has come."""

    id: str
    """what `part_ids` of the completion names"""
    object: Literal["upload.part"] = "upload.part"
    """always upload.part"""
    created_at: int
    """when it came, in seconds since 1970"""
    upload_id: str
    """of the upload that it belongs to"""
