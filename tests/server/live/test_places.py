"""Places of live sessions: as many as are set, a part of them for each key."""

from contextlib import ExitStack

import pytest

from server.keys.file import ApiKey, ApiKeys
from server.live.places import LivePlaces
from server.problems import BusyError, RateLimitError
from server.settings import KeyLimits, Settings


def places(*, per_key: int | None = None, num_keys: int = 0) -> LivePlaces:
    keys = [ApiKey(bytes([number]), f"name:{number}", KeyLimits()) for number in range(num_keys)]
    settings = Settings.model_validate({"live_sessions": 4, "live_sessions_per_key": per_key})
    return LivePlaces(settings, ApiKeys(keys))


async def test_there_is_a_place_for_each_session_until_all_are_taken() -> None:
    here = places()
    with ExitStack() as stack:
        for _ in range(4):
            stack.enter_context(here.enter("public"))
        assert here.num_taken == 4
        with pytest.raises(BusyError, match="4 live sessions are open") as caught, here.enter("public"):
            pass
        assert not isinstance(caught.value, RateLimitError)
    assert here.num_taken == 0
    with here.enter("public"):
        assert here.num_taken == 1


async def test_a_key_has_as_many_as_it_may() -> None:
    here = places(per_key=1, num_keys=2)
    with here.enter("name:0"):
        with pytest.raises(RateLimitError, match="may have 1 live sessions"), here.enter("name:0"):
            pass
        with here.enter("name:1"):
            assert here.num_taken == 2


async def test_a_part_is_kept_for_every_key() -> None:
    here = places(num_keys=2)
    with ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(here.enter("name:0"))
        with pytest.raises(BusyError), here.enter("name:0"):
            pass
        with here.enter("name:1"):
            assert here.num_taken == 4
