"""What pydantic finds wrong with a value, as the one line that all our messages about values have."""

import json
from collections.abc import Iterable
from dataclasses import is_dataclass
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from annotated_types import Ge, Gt, Le, Lt, MinLen
from pydantic import BaseModel, SecretStr, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from bt_model.errors import InvalidValueError

T = TypeVar("T")
_KINDS: dict[Any, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a string",
    SecretStr: "a string",
    Path: "a path",
    tuple: "a list",
    dict: "a table of names and values",
}
_UNKNOWN = frozenset({"extra_forbidden", "unexpected_keyword_argument"})
_SHOWN = 80  # characters of a wrong value


def validated(kind: type[T], values: object, *, nothing: str = "") -> T:
    """A class from values as JSON and TOML have them; `nothing` is how the file spells that there is none.

    Raises:
        InvalidValueError: a name that is unknown or missing, or a value that is not allowed.
    """
    try:
        # validation of Python's objects would want tuples and instances; JSON has lists and tables
        return _adapter(kind).validate_json(json.dumps(values, default=str))
    except ValidationError as error:
        raise invalid_value(error, kind, nothing=nothing) from error


@cache
def _adapter(kind: type[T]) -> TypeAdapter[T]:
    return TypeAdapter(kind)


def invalid_value(error: ValidationError, kind: type[Any], *, nothing: str = "") -> InvalidValueError:
    """The first thing that is wrong with the values of a class; `param` is its dotted name."""
    found = error.errors(include_url=False)
    first = next((each for each in found if each["type"] in _UNKNOWN), found[0])
    path = first["loc"]
    name = ".".join(map(str, path))
    rule = first.get("ctx", {}).get("error")
    if isinstance(rule, InvalidValueError):  # a rule between fields, which words itself
        below = [name] if name else []
        param = ".".join([*below, rule.param] if rule.param else below)
        return InvalidValueError(".".join([*below, rule.message]), param=param)
    if first["type"] in _UNKNOWN:
        parent = _at(kind, path[:-1])
        return InvalidValueError(f"{name} is not known; allowed: {', '.join(_fields(parent))}", param=name)
    if first["type"] == "missing":
        return InvalidValueError(f"{name} is missing, and needed", param=name)
    hint = _at(kind, path)
    value = "***" if SecretStr in _parts(hint) else repr(first["input"])[:_SHOWN]
    return InvalidValueError(f"{name} is {value}; allowed: {allowed_values(hint, nothing)}", param=name)


def allowed_values(hint: Any, nothing: str = "") -> str:
    """What a field takes, in words; `hint` is its type, with pydantic's bounds as its metadata.

    "a whole number, 0 to 65535", "float32, bfloat16", "a number, or null" where `nothing` is null.
    """
    kind, metadata, is_optional = _parts(hint)
    origin = get_origin(kind) or kind
    if origin is Literal:
        words = ", ".join(map(str, get_args(kind)))
    elif _fields(kind):
        words = "a section"
    elif origin is tuple and Ellipsis not in get_args(kind):
        words = f"a list of {len(get_args(kind))}"
    else:
        words = ", ".join(filter(None, (_KINDS[origin], _bounds(metadata))))
    return f"{words}, or {nothing}" if is_optional and nothing else words


def hint_of(field: FieldInfo) -> Any:
    """A field's type together with its bounds."""
    return Annotated[(field.annotation, *field.metadata)] if field.metadata else field.annotation


def _at(hint: Any, path: Iterable[str | int]) -> Any:
    """The type of what lies at a path below a type."""
    for step in path:
        kind, _, _ = _parts(hint)
        fields = _fields(kind)
        if fields:
            hint = fields[str(step)]
        elif get_origin(kind) in (dict, tuple):
            hint = get_args(kind)[1 if get_origin(kind) is dict else 0]
    return hint


def _parts(hint: Any) -> tuple[Any, tuple[Any, ...], bool]:
    """A type without its metadata and without None, the metadata, and whether it may be None."""
    metadata: tuple[Any, ...] = ()
    is_optional = False
    while get_origin(hint) in (Annotated, Union, UnionType):
        if get_origin(hint) is Annotated:
            hint, *more = get_args(hint)
            metadata += tuple(more)
        else:
            is_optional = NoneType in get_args(hint)
            hint = next(each for each in get_args(hint) if each is not NoneType)
    return hint, metadata, is_optional


def _fields(kind: Any) -> dict[str, Any]:
    """The types of a class's fields by name; empty for everything that has none."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return {name: hint_of(field) for name, field in kind.model_fields.items()}
    if isinstance(kind, type) and is_dataclass(kind):
        return get_type_hints(cast("type[object]", kind), include_extras=True)
    return {}


def _bounds(metadata: Iterable[Any]) -> str:
    known: dict[type, Any] = {}
    for each in metadata:
        nested = each.metadata if isinstance(each, FieldInfo) else [each]
        known |= {type(bound): bound for bound in nested}
    if Ge in known and Le in known:
        return f"{known[Ge].ge} to {known[Le].le}"
    words = [
        f"{known[Ge].ge} or more" if Ge in known else "",
        f"above {known[Gt].gt}" if Gt in known else "",
        f"up to {known[Le].le}" if Le in known else "",
        f"below {known[Lt].lt}" if Lt in known else "",
        f"at least {known[MinLen].min_length}" if MinLen in known else "",
    ]
    return ", ".join(filter(None, words))
