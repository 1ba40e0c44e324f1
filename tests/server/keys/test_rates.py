"""What keys take of a minute or a day, and wrong keys by address."""

import time

import pytest

from server.keys.file import ApiKey, ApiKeys
from server.keys.rates import Rates, WrongKeys
from server.problems import RateLimitError
from server.settings import KeyLimits

LIMITS = KeyLimits(requests_per_minute=2, tokens_per_minute=100, video_seconds_per_day=60)


@pytest.fixture
def rates() -> Rates:
    keys = [ApiKey(b"1", "mine", LIMITS), ApiKey(b"2", "theirs", LIMITS), ApiKey(b"3", "free", KeyLimits())]
    return Rates(ApiKeys(keys))


class Clock:
    """The wall clock, which can be set."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.ahead = 0.0
        real = time.time
        patch.setattr(time, "time", lambda: real() + self.ahead)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def test_requests_a_minute_are_counted_by_key(rates: Rates, clock: Clock) -> None:
    for _ in range(2):
        rates.count_request("mine")
    with pytest.raises(RateLimitError, match="2 requests a minute") as over:
        rates.count_request("mine")
    assert 59 < over.value.retry_seconds <= 60
    rates.count_request("theirs")
    for _ in range(50):
        rates.count_request("free")
    assert rates.left("free") == {}
    assert rates.left("theirs")["requests"][:2] == (2, 1)
    clock.ahead = 61
    rates.count_request("mine")


@pytest.mark.parametrize("kind", ["tokens", "video"])
def test_what_is_known_afterwards_refuses_the_next_until_the_end_of_the_window(
    rates: Rates, clock: Clock, kind: str
) -> None:
    require = {"tokens": rates.require_tokens, "video": rates.require_video}[kind]
    spend = {
        "tokens": lambda: rates.spend_tokens("mine", 99),
        "video": lambda: rates.spend_video("mine", 59.2),
    }
    seconds = {"tokens": 60, "video": 86_400}[kind]
    require("mine")
    spend[kind]()
    require("mine")
    spend[kind]()  # beyond it: that one was let in before
    with pytest.raises(RateLimitError) as over:
        require("mine")
    assert seconds - 1 < over.value.retry_seconds <= seconds
    require("theirs")
    clock.ahead = seconds + 1
    require("mine")


def test_what_is_left_is_told(rates: Rates) -> None:
    rates.count_request("mine")
    rates.spend_tokens("mine", 130)
    left = rates.left("mine")
    assert (left["requests"][:2], left["tokens"][:2]) == ((2, 1), (100, 0))
    assert 59 < left["tokens"][2] <= 60


def test_a_clock_that_is_put_back_keeps_nobody_out(rates: Rates, clock: Clock) -> None:
    clock.ahead = 10 * 365 * 86_400
    rates.spend_tokens("mine", 1000)
    for _ in range(2):
        rates.count_request("mine")
    clock.ahead = 0
    for check in (rates.require_tokens, rates.count_request):
        with pytest.raises(RateLimitError) as over:
            check("mine")
        assert over.value.retry_seconds == 0
        check("mine")


def test_wrong_keys_are_counted_by_address_and_by_network_where_one_client_has_many() -> None:
    wrong = WrongKeys(2)
    assert [wrong.count("10.0.0.1") for _ in range(2)] == [0, 0]
    assert 59 < wrong.count("10.0.0.1") <= 60
    assert wrong.count("::ffff:10.0.0.1") > 0
    assert wrong.count("10.0.0.2") == 0
    assert [wrong.count(f"2001:db8::{each}") > 0 for each in range(4)] == [False, False, True, True]
    assert wrong.count("2001:db8:1::") == 0
    assert wrong.count("unknown") == 0


def test_no_number_of_addresses_fills_the_memory() -> None:
    wrong = WrongKeys(2)
    for number in range(10_100):
        wrong.count(f"10.1.{number // 256}.{number % 256}")
    assert len(wrong._storage.storage) <= 10_001  # pyright: ignore[reportPrivateUsage] - nothing else shows it
    assert wrong.count("10.9.9.9") > 0
    assert wrong.count("10.1.0.0") == 0
