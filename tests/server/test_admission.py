"""What is in flight at once: shares of requests and bytes, and who is told to come back when."""

import random
from contextlib import ExitStack

import pytest

from bt_model.errors import InvalidValueError
from server.admission import PUBLIC, Admission, Shares
from server.keys.file import ApiKey, ApiKeys
from server.problems import BusyError, RateLimitError
from server.settings import KeyLimits

KEYS = ("a", "b", "c")


def admission_of(
    max_requests: int, max_per_key: int | None = None, *, max_bytes: int = 1, num_keys: int = 1
) -> Admission:
    limits = KeyLimits(max_requests_per_key=max_per_key)
    keys = [ApiKey(bytes([number]), f"key {number}", limits) for number in range(num_keys)]
    return Admission(max_requests, max_bytes, ApiKeys(keys, limits))


@pytest.mark.parametrize("seed", range(20))
def test_what_is_kept_for_a_key_is_there_whatever_the_others_take(seed: int) -> None:
    """Takes and gives back at random; after each, every key can have what is kept for it."""
    draw = random.Random(seed)
    shares = Shares(draw.randint(6, 60), len(KEYS), most_kept=draw.randint(1, 9))
    assert shares.kept >= 1
    taken: list[tuple[str, int]] = []
    for _ in range(300):
        key, amount = draw.choice(KEYS), draw.randint(1, 8)
        if shares.fits(key, amount):
            shares.take(key, amount)
            taken.append((key, amount))
        elif taken:
            shares.give_back(*taken.pop(draw.randrange(len(taken))))
        assert shares.taken == sum(amount for _, amount in taken) <= shares.total
        for other in KEYS:
            assert shares.fits(other, max(shares.kept - shares.taken_by(other), 0))


def test_one_key_alone_has_all_and_of_several_each_has_all_but_what_is_kept() -> None:
    assert Shares(256, 1, 8).most_of_one == 256
    assert Shares(256, 2, 8).most_of_one == 248
    assert Shares(256, 1000, 8).most_of_one == 256  # too many keys to keep anything for each


def entered(admission: Admission, stack: ExitStack, tenant: str) -> int:
    """How many requests of a tenant are let in, until one is refused."""
    for count in range(1000):
        try:
            stack.enter_context(admission.enter(tenant))
        except BusyError:
            return count
    raise AssertionError("nothing bounds them")


def test_a_key_with_a_thousand_requests_keeps_nobody_out() -> None:
    admission = admission_of(256, num_keys=3)
    with ExitStack() as stack:
        assert entered(admission, stack, "greedy") == 240
        assert entered(admission, stack, "as greedy") == 8
        assert entered(admission, stack, "modest") == 8
        assert admission.num_running == 256
    assert admission.num_running == 0


def test_forty_at_once_with_one_key_are_let_in_by_default() -> None:
    with ExitStack() as stack:
        assert entered(admission_of(256), stack, PUBLIC) == 256


def test_a_keys_own_cap_is_another_refusal_than_a_full_server() -> None:
    admission = admission_of(4, 2)
    with admission.enter("a"), admission.enter("a"):
        with pytest.raises(RateLimitError), admission.enter("a"):
            pass
        others = admission.enter("b"), admission.enter("b")
        with others[0], others[1], pytest.raises(BusyError) as full, admission.enter("c"):
            pass
        assert not isinstance(full.value, RateLimitError)


def test_those_refused_are_told_to_come_one_after_the_other_and_none_later_than_a_whole_round() -> None:
    admission = admission_of(10)
    with ExitStack() as stack:
        entered(admission, stack, PUBLIC)
        seconds: list[float] = []
        for _ in range(30):
            with pytest.raises(BusyError) as full, admission.enter(PUBLIC):
                pass
            seconds.append(full.value.retry_seconds)
    assert seconds == sorted(seconds)
    assert seconds[0] < seconds[5] < seconds[-1] == pytest.approx(1.0)


def test_bytes_are_held_until_they_are_released_or_the_request_ends() -> None:
    admission = admission_of(10, max_bytes=100)
    with admission.enter("a") as first, admission.enter("a") as second:
        first.add(70)
        with pytest.raises(BusyError, match="100 bytes"):
            second.add(31)
        first.keep(20)
        second.add(31)
        second.keep(1000)
        assert admission.num_bytes == 51
        second.keep(0)
        assert admission.num_bytes == 20
    assert admission.num_bytes == 0


def test_of_bytes_half_are_kept_for_the_keys_too() -> None:
    admission = admission_of(10, max_bytes=100, num_keys=2)
    with admission.enter("greedy") as greedy, admission.enter("modest") as modest:
        greedy.add(75)
        with pytest.raises(BusyError):
            greedy.add(1)
        modest.add(25)


def test_more_choices_than_a_key_may_ever_have_at_once_are_a_bad_value() -> None:
    admission = admission_of(8, 4)
    admission.require_room("a", 4, "n")
    with pytest.raises(InvalidValueError, match=r"^n is 5; allowed: at most 4") as caught:
        admission.require_room("a", 5, "n")
    assert caught.value.param == "n"
