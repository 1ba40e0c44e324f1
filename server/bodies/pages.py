"""A page of what there is, as OpenAI's lists are."""

from typing import Generic, Literal, Self, TypeVar

from server.bodies.described import ResponseBody


class Listed(ResponseBody):
    """What a page lists."""

    id: str
    """of it"""


T = TypeVar("T", bound=Listed)


class ObjectPage(ResponseBody, Generic[T]):
    """A page."""

    object: Literal["list"] = "list"
    """always list"""
    data: list[T]
    """in the order that was asked for"""
    has_more: bool
    """whether others follow"""
    first_id: str | None
    """the id of the first; null where there is none"""
    last_id: str | None
    """the id of the last, for `after` of the next page; null where there is none"""

    @classmethod
    def of(cls, found: list[T], limit: int) -> Self:
        """A page of up to `limit` of what was found, which is one more where others follow."""
        data = found[:limit]
        ids: list[str | None] = [each.id for each in data] or [None]
        return cls(data=data, has_more=len(found) > limit, first_id=ids[0], last_id=ids[-1])
