"""Pages of the KV cache: which are free, and which hold prompts that may come again. Without tensors."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

from bt_model.generation.chunk import PAGE

Key = int | tuple[bytes, int]
"""What stands at one position of a prompt: a token's id, or a soft token's source and number."""

_LEAST_COPIED = 16  # positions that are worth the copy of a page


class PagePool:
    """Pages 1..count, each free or in use by sequences and by the prefix store; page 0 is not for use."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._free = list(range(count, 0, -1))
        self._users = [0] * (count + 1)

    @property
    def num_free(self) -> int:
        return len(self._free)

    def take(self) -> int:
        """A free page, with one user."""
        page = self._free.pop()
        self._users[page] = 1
        return page

    def share(self, page: int) -> None:
        """One more user."""
        self._users[page] += 1

    def release(self, page: int) -> bool:
        """One user less; whether that was the last."""
        self._users[page] -= 1
        if not self._users[page]:
            self._free.append(page)
        return not self._users[page]

    def is_shared(self, page: int) -> bool:
        return self._users[page] > 1


@dataclass(frozen=True, slots=True)
class Prefix:
    """What is known of a prompt: whole pages to share, and the first `num_copied` positions of another."""

    pages: tuple[int, ...] = ()
    copied: int | None = None
    num_copied: int = 0

    @property
    def length(self) -> int:
        return len(self.pages) * PAGE + self.num_copied


@dataclass(slots=True, eq=False)
class _Node:
    """A page in the tree; a full one may have children, what may follow it."""

    page: int
    keys: tuple[Key, ...]
    parent: "_Node | None"
    children: "dict[tuple[Key, ...], _Node]" = field(default_factory=dict["tuple[Key, ...]", "_Node"])


class PrefixStore:
    """Prompts by owner as trees of pages; the least recently used are given up when pages are needed.

    It is one user of each of its pages.
    """

    def __init__(self, pool: PagePool) -> None:
        self._pool = pool
        self._roots: dict[bytes, _Node] = {}
        self._by_use: OrderedDict[_Node, None] = OrderedDict()  # the least recently used first

    @property
    def num_pages(self) -> int:
        return len(self._by_use)

    def find(self, owner: bytes, keys: Sequence[Key]) -> Prefix:
        """The longest known beginning of a prompt; the asker is one more user of all its pages."""
        node = self._roots.get(owner)
        if node is None:
            return Prefix()
        keys = tuple(keys)
        path: list[_Node] = []
        while (child := node.children.get(keys[len(path) * PAGE : (len(path) + 1) * PAGE])) is not None:
            if len(child.keys) < PAGE:
                break
            node = child
            path.append(node)
            self._pool.share(node.page)
        rest = keys[len(path) * PAGE :]
        best, common = None, 0
        for child in node.children.values():
            length = _common(child.keys, rest)
            if length > max(common, _LEAST_COPIED - 1):
                best, common = child, length
        if best is not None:
            self._pool.share(best.page)
        for used in (best, *reversed(path)):  # parents are more recent than children, which go first
            if used is not None:
                self._by_use.move_to_end(used)
        return Prefix(tuple(node.page for node in path), None if best is None else best.page, common)

    def add(self, owner: bytes, keys: Sequence[Key], pages: Sequence[int]) -> None:
        """Remember a prompt that is computed, and whose pages these are."""
        keys = tuple(keys)
        node = self._roots.setdefault(owner, _Node(0, (), None))
        path: list[_Node] = []
        for number, page in enumerate(pages):
            content = keys[number * PAGE : (number + 1) * PAGE]
            if not content:
                break
            child = node.children.get(content)
            if child is None:
                child = node.children[content] = _Node(page, content, node)
                self._pool.share(page)
                self._by_use[child] = None
            path.append(child)
            node = child
        for used in reversed(path):
            self._by_use.move_to_end(used)

    def give_up(self, count: int) -> bool:
        """Free pages that nobody else uses until `count` are free in all; whether there are so many."""
        while self._pool.num_free < count:
            idle = (n for n in self._by_use if not n.children and not self._pool.is_shared(n.page))
            node = next(idle, None)
            if node is None:
                return False
            self._remove(node)
        return True

    def forget(self, source: bytes) -> None:
        """Give up every prompt in which a soft token stands whose source begins so; b"" is all prompts."""
        doomed: set[_Node] = set()
        for node in reversed(self._by_use):  # parents before children
            if node.parent in doomed or not source or _stems_from(node, source):
                doomed.add(node)
        for node in [node for node in self._by_use if node in doomed]:
            self._remove(node)

    def _remove(self, node: _Node) -> None:
        assert node.parent is not None
        del node.parent.children[node.keys]
        del self._by_use[node]
        self._pool.release(node.page)


def _stems_from(node: _Node, source: bytes) -> bool:
    return any(isinstance(key, tuple) and key[0].startswith(source) for key in node.keys)


def _common(first: Sequence[Key], second: Sequence[Key]) -> int:
    """How many positions two sequences have in common at their beginning."""
    length = 0
    for one, other in zip(first, second, strict=False):
        if one != other:
            break
        length += 1
    return length
