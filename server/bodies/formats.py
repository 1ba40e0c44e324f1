"""What an answer is to look like, in OpenAI's form: JSON by a schema, tokens more or less likely."""

import json
import re
from typing import Annotated, Any, Literal, cast

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticKnownError

from bt_model.errors import require
from bt_model.grammar.schema import ANY_OBJECT, MAX_SCHEMA_BYTES, schema_text
from server.bodies.rules import say_format

MAX_BIASES = 1024
_MOST_BIAS = 100.0
_ID = re.compile("^[0-9]{1,8}$")  # of a token

_STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True)


def _few(value: object) -> object:
    """One error, and not one for each of a hundred thousand."""
    if isinstance(value, dict) and (number := len(cast(dict[object, object], value))) > MAX_BIASES:
        lengths = {"max_length": MAX_BIASES, "actual_length": number}
        raise PydanticKnownError("too_long", {"field_type": "Object", **lengths})
    return value


LogitBias = Annotated[
    dict[str, Annotated[float, Field(ge=-_MOST_BIAS, le=_MOST_BIAS)]],
    BeforeValidator(_few),
    Field(json_schema_extra={"propertyNames": {"pattern": _ID.pattern}, "maxProperties": MAX_BIASES}),
]


def bias_of(given: dict[str, float] | None) -> tuple[tuple[int, float], ...]:
    """As `GenerateOptions.logit_bias`; raises InvalidValueError for what is no id."""
    for name in given or ():
        require(_ID.fullmatch(name) is not None, "logit_bias", name[:40], "token ids of the model as keys")
    return tuple((int(name), value) for name, value in (given or {}).items())


SchemaName = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
SchemaWords = Annotated[str, Field(max_length=4096)]
SCHEMA = Field(alias="schema", description=f"JSON Schema, {MAX_SCHEMA_BYTES} bytes at most")


class NamedSchema(BaseModel):
    """A JSON Schema, which is followed whatever `strict` says; `name` and `description` change nothing."""

    model_config = _STRICT

    name: SchemaName
    """changes nothing"""
    description: SchemaWords | None = None
    """changes nothing"""
    given: Annotated[dict[str, Any], SCHEMA]
    strict: bool | None = None
    """changes nothing: every schema is followed"""


class ResponseFormat(BaseModel):
    """The form of an answer; `json_schema` has its schema."""

    model_config = _STRICT | ConfigDict(json_schema_extra=say_format)

    type: Literal["text", "json_object", "json_schema"]
    """json_schema with a schema"""
    json_schema: NamedSchema | None = None
    """what the answer follows"""

    def schema_text(self) -> str | None:
        """The schema that the answer follows, as `GenerateOptions.schema`.

        Raises:
            InvalidValueError: without the schema that `type` asks for, with one that it does not, or with one
                that is too long or too deep.
        """
        is_named, schema = self.type == "json_schema", self.json_schema
        allowed = "null where the type is not json_schema"
        require(is_named or schema is None, "response_format.json_schema", "an object", allowed)
        if schema is not None:
            return schema_text(schema.given)
        require(not is_named, "response_format.json_schema", None, "an object with name and schema")
        return ANY_OBJECT if self.type == "json_object" else None


def format_of(schema: str) -> dict[str, Any]:
    """The `response_format` of what `ResponseFormat.schema_text` gave."""
    if schema == ANY_OBJECT:
        return {"type": "json_object"}
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": json.loads(schema)}}
