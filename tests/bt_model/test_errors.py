"""The codes that clients see."""

import pytest

from bt_model import errors
from bt_model.errors import BtchatError, InvalidValueError, require

CODES = {
    "BtchatError": "internal_error",
    "InvalidValueError": "invalid_value",
    "ContextLengthError": "context_length_exceeded",
    "UnknownNameError": "not_found",
    "VideoError": "undecodable_video",
    "UnsupportedMediaError": "unsupported_media",
    "DecodeTimeoutError": "decode_timeout",
    "PartlyDecodedError": "decode_timeout",
    "VideoLimitError": "video_too_large",
    "CheckpointError": "bad_checkpoint",
    "TrainingError": "training_failed",
    "EngineError": "engine_error",
    "QueueFullError": "overloaded",
    "DecodeQueueFullError": "overloaded",
    "PixelsForgottenError": "pixels_forgotten",
    "FeaturesMissingError": "features_missing",
    "EngineDeadError": "engine_restarted",
}


def test_every_error_has_the_code_that_clients_know() -> None:
    found = {name: kind for name, kind in vars(errors).items() if isinstance(kind, type)}
    assert {name: kind.code for name, kind in found.items() if issubclass(kind, BtchatError)} == CODES


def test_an_error_may_have_a_code_of_its_own() -> None:
    plain, own = BtchatError("m"), BtchatError("m", code="own", param="p")
    assert (plain.code, plain.param, own.code, own.param) == ("internal_error", None, "own", "p")
    assert (str(own), BtchatError.code) == ("m", "internal_error")


def test_a_refused_value_is_named_with_the_allowed_ones() -> None:
    require(True, "n", "x", "1 to 2")
    with pytest.raises(InvalidValueError, match=r"^n is 'x'; allowed: 1 to 2$") as caught:
        require(False, "n", "x", "1 to 2")
    assert caught.value.param == "n"
    assert isinstance(caught.value, ValueError)


def test_a_long_value_is_not_shown_whole() -> None:
    with pytest.raises(InvalidValueError, match=r"^n is 'x{199}…; allowed: less$"):
        require(False, "n", "x" * 5000, "less")
