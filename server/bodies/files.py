"""The bodies of /v1/files and /v1/uploads: OpenAI's names for the same uploads."""

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field, ValidationError

from server.bodies.own import WHOLE, Body, FewErrors, Filename
from server.uploads.parts import MAX_PARTS
from server.uploads.rows import Pieces, StoredVideo, Terms

Purpose = Literal["user_data", "vision", "video", "assistants"]

FORM_FIELDS = ("purpose", "expires_after[anchor]", "expires_after[seconds]")
_MAX_ID = 64


class ExpiresAfter(Body):
    """When a file ends, but for those that the server deletes before."""

    anchor: Literal["created_at"]
    seconds: Annotated[int, Field(ge=3600, le=2_592_000), WHOLE]


class FileTerms(Body):
    """What a client says of a file: kept, and shown again; a file is a video for all purposes."""

    purpose: Purpose
    expires_after: ExpiresAfter | None = None

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
    filename: Filename
    mime_type: Annotated[str, Field(max_length=255)]


class CompleteBody(Body):
    """The parts in their order in the file."""

    part_ids: Annotated[
        FewErrors[Annotated[str, Field(max_length=_MAX_ID)]], Field(min_length=1, max_length=MAX_PARTS)
    ]
    md5: Annotated[str, Field(pattern="^[0-9a-fA-F]{32}$")] | None = None


class FileObject(BaseModel):
    """One upload, as OpenAI's clients read it."""

    id: str
    object: Literal["file"] = "file"
    bytes: int
    created_at: int
    expires_at: int | None
    filename: str
    purpose: str
    status: Literal["processed"] = "processed"
    status_details: None = None
    sha256: str

    @classmethod
    def of(cls, video: StoredVideo) -> Self:
        return cls(
            id=video.id,
            bytes=video.num_bytes,
            created_at=video.created_at,
            expires_at=video.expires_at,
            filename=video.filename,
            purpose=video.purpose,
            sha256=video.sha256,
        )


class FilePage(BaseModel):
    """A page of uploads."""

    object: Literal["list"] = "list"
    data: list[FileObject]
    has_more: bool
    first_id: str | None
    last_id: str | None


class FileDeleted(BaseModel):
    """The response to a deletion."""

    id: str
    object: Literal["file"] = "file"
    deleted: Literal[True] = True


class UploadObject(BaseModel):
    """An upload in parts; `file` is there once it is complete."""

    id: str
    object: Literal["upload"] = "upload"
    bytes: int
    created_at: int
    expires_at: int | None
    filename: str
    purpose: str
    status: Literal["pending", "completed", "cancelled"]
    file: FileObject | None = None

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
    def completed(cls, upload_id: str, video: StoredVideo) -> Self:
        file = FileObject.of(video)
        shown = file.model_dump(include={"bytes", "created_at", "expires_at", "filename", "purpose"})
        return cls(id=upload_id, status="completed", file=file, **shown)


class PartObject(BaseModel):
    """A part that has come."""

    id: str
    object: Literal["upload.part"] = "upload.part"
    created_at: int
    upload_id: str
