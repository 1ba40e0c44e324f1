"""The base of all bodies: what stands below a field is its description in the OpenAPI document."""

from pydantic import BaseModel, ConfigDict


class Described(BaseModel):
    """A body whose fields are described."""

    model_config = ConfigDict(use_attribute_docstrings=True)


class ResponseBody(Described):
    """What this server sends; a field with a default may be left out."""
