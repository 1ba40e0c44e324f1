"""Pictures as a session's messages carry them."""

from bt_model.errors import InvalidValueError
from server.uploads.data_url import Base64Text, begin_of_data


def picture_of(data: str) -> bytes:
    """The bytes of base64, alone or in a data URL. Raises InvalidValueError: it is neither."""
    decoder = Base64Text()
    try:
        return decoder.feed(data[begin_of_data(data) or 0 :]) + decoder.end()
    except ValueError as error:
        raise InvalidValueError(f"data is not base64: {error}", param="data") from error
