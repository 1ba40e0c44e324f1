import pytest

from server.worker.feature_cache import FeatureCache


@pytest.fixture
def cache() -> FeatureCache[str]:
    return FeatureCache(max_bytes=10)


def keys(cache: FeatureCache[str]) -> set[bytes]:
    return {key for key in (b"a", b"b", b"c") if cache.get(key) is not None}


def test_a_value_comes_back_with_its_receipt(cache: FeatureCache[str]) -> None:
    cache.put(b"a", "tokens", 3, {"frames": 4})
    entry = cache.get(b"a")
    assert entry is not None
    assert (entry.value, entry.num_bytes, entry.receipt) == ("tokens", 3, {"frames": 4})


def test_the_least_recently_used_goes_first(cache: FeatureCache[str]) -> None:
    cache.put(b"a", "", 5, {})
    cache.put(b"b", "", 5, {})
    cache.get(b"a")
    cache.put(b"c", "", 5, {})
    assert keys(cache) == {b"a", b"c"}


def test_a_full_cache_keeps_everything_that_fits_exactly(cache: FeatureCache[str]) -> None:
    cache.put(b"a", "", 5, {})
    cache.put(b"b", "", 5, {})
    assert keys(cache) == {b"a", b"b"}


def test_the_newest_stays_even_if_it_is_too_large(cache: FeatureCache[str]) -> None:
    cache.put(b"a", "", 5, {})
    cache.put(b"b", "", 50, {})
    assert keys(cache) == {b"b"}


def test_putting_a_key_again_replaces_its_bytes(cache: FeatureCache[str]) -> None:
    cache.put(b"a", "old", 6, {})
    cache.put(b"a", "new", 4, {})
    entry = cache.get(b"a")
    assert entry is not None
    assert (entry.value, cache.num_bytes, len(cache)) == ("new", 4, 1)


def test_forgotten_keys_free_their_bytes(cache: FeatureCache[str]) -> None:
    cache.put(b"a", "", 5, {})
    cache.put(b"ab", "", 1, {})
    cache.put(b"b", "", 3, {})
    cache.forget(b"unknown")
    cache.forget(b"a")
    assert (keys(cache), cache.num_bytes) == ({b"b"}, 3)
