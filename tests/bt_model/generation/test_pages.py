"""Pages and the store of prompts, without tensors."""

import pytest

from bt_model.generation.chunk import PAGE
from bt_model.generation.pages import Key, PagePool, PrefixStore

VIDEO = [(b"video", number) for number in range(PAGE + 30)]


def held(pool: PagePool, store: PrefixStore, keys: list[Key], owner: bytes = b"") -> list[int]:
    """A prompt that is computed, remembered and over; its pages."""
    pages = [pool.take() for _ in range(-(-len(keys) // PAGE))]
    store.add(owner, keys, pages)
    for page in pages:
        pool.release(page)
    return pages


@pytest.fixture
def pool() -> PagePool:
    return PagePool(8)


@pytest.fixture
def store(pool: PagePool) -> PrefixStore:
    return PrefixStore(pool)


def test_a_prompt_is_found_up_to_where_it_differs(pool: PagePool, store: PrefixStore) -> None:
    pages = held(pool, store, [*VIDEO, *range(20)])
    found = store.find(b"", [*VIDEO, *range(10), 99, 98])
    assert (found.pages, found.copied, found.num_copied) == ((pages[0],), pages[1], 40)
    assert found.length == len(VIDEO) + 10


def test_whole_pages_are_shared_and_the_longest_rest_is_copied(pool: PagePool, store: PrefixStore) -> None:
    held(pool, store, [*VIDEO, 1, 2])
    held(pool, store, [*VIDEO, 5, 6])
    assert store.num_pages == 3
    assert store.find(b"", [*VIDEO, 5, 6, 7]).length == len(VIDEO) + 2


def test_a_beginning_of_a_few_tokens_is_not_worth_a_copy(pool: PagePool, store: PrefixStore) -> None:
    held(pool, store, list(range(100)))
    assert store.find(b"", [*range(15), 999]).length == 0
    assert store.find(b"", [*range(16), 999]).length == 16


def test_owners_share_nothing(pool: PagePool, store: PrefixStore) -> None:
    held(pool, store, [*VIDEO], b"a")
    assert store.find(b"b", [*VIDEO]).length == 0


def test_pages_are_given_up_by_last_use_children_first(pool: PagePool, store: PrefixStore) -> None:
    old = held(pool, store, list(range(PAGE + 20)))
    held(pool, store, list(range(1000, 1000 + 2 * PAGE)))
    held(pool, store, list(range(3000, 3000 + 2 * PAGE)))
    assert store.give_up(pool.num_free + 1)
    found = store.find(b"", range(PAGE + 20))
    assert (found.pages, found.num_copied) == ((old[0],), 0)  # its second page went


def test_pages_in_use_are_not_given_up(pool: PagePool, store: PrefixStore) -> None:
    held(pool, store, list(range(2 * PAGE)))
    found = store.find(b"", range(2 * PAGE))
    assert not store.give_up(pool.count)
    for page in found.pages:
        pool.release(page)
    assert store.give_up(pool.count)
    assert (pool.num_free, store.num_pages) == (8, 0)


def test_a_source_is_forgotten_with_all_that_follows_it(pool: PagePool, store: PrefixStore) -> None:
    held(pool, store, [*VIDEO, *range(2 * PAGE)])
    held(pool, store, [(b"video of another", number) for number in range(PAGE)])
    held(pool, store, list(range(PAGE)))
    store.forget(b"video of")
    assert store.num_pages == 5
    store.forget(b"video")
    assert store.num_pages == 1
    store.forget(b"")
    assert (pool.num_free, store.num_pages) == (8, 0)


def test_a_prompt_of_a_thousand_pages_can_be_forgotten() -> None:
    pool = PagePool(1500)
    store = PrefixStore(pool)
    held(pool, store, list(range(1500 * PAGE)))
    store.forget(b"")
    assert pool.num_free == 1500
