"""What an answer is to look like: any text, any JSON object, or JSON by a schema; in OpenAI's form."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from bt_model.errors import require
from bt_model.grammar.schema import ANY_OBJECT, MAX_SCHEMA_BYTES, schema_text

_STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True)


class NamedSchema(BaseModel):
    """A JSON Schema, which is followed whatever `strict` says; `name` and `description` change nothing."""

    model_config = _STRICT

    name: Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
    """changes nothing"""
    description: Annotated[str, Field(max_length=4096)] | None = None
    """changes nothing"""
    given: Annotated[
        dict[str, Any], Field(alias="schema", description=f"JSON Schema, {MAX_SCHEMA_BYTES} bytes at most")
    ]
    strict: bool | None = None
    """changes nothing: every schema is followed"""


class ResponseFormat(BaseModel):
    """The form of an answer; `json_schema` has its schema."""

    model_config = _STRICT | ConfigDict(
        json_schema_extra={
            "anyOf": [
                {"properties": {"type": {"enum": ["text", "json_object"]}, "json_schema": {"type": "null"}}},
                {
                    "properties": {"type": {"const": "json_schema"}, "json_schema": {"type": "object"}},
                    "required": ["json_schema"],
                },
            ]
        }
    )

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
