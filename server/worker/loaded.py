"""What a pool of models is made of: where they come from, those that are loaded, and those that are lent."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from bt_model.errors import BtchatError
from bt_model.generation.engine import BatchEngine
from bt_model.grammar.grammars import Grammars

if TYPE_CHECKING:
    from bt_model.chat import VideoChat


class Estimate(Protocol):
    """The memory that a model will need, and what its engine may take; `str` is one line."""

    @property
    def total(self) -> int: ...

    @property
    def max_batch(self) -> int: ...

    @property
    def max_context(self) -> int:
        """Of a request; 0 is the model's own."""
        ...

    @property
    def num_pages(self) -> int:
        """Of the cache; 0 is enough for whole contexts."""
        ...


class Loader(Protocol):
    """Where models come from: `ids` can be had, the first at the start, which is no adapter of another."""

    @property
    def ids(self) -> tuple[str, ...]: ...

    def estimate(self, name: str) -> Estimate: ...

    def load(self, name: str, report: Callable[[int, int], None]) -> "VideoChat":
        """`report` is told which file is being read, and of how many."""
        ...

    def base_of(self, name: str) -> str | None:
        """The model that this one is but for its adapter; None for one by itself."""
        ...

    def load_beside(self, name: str, base: "VideoChat") -> "VideoChat":
        """One that has such a model, which is loaded."""
        ...

    def free_bytes(self) -> int: ...

    def collect(self) -> None:
        """Return the memory of unreferenced models to the system."""
        ...


@dataclass(slots=True, eq=False)
class LoadedModel:
    """A model and its generation engine, which is that of `base` where it shares all but the adapter."""

    name: str
    chat: "VideoChat"
    engine: BatchEngine
    num_bytes: int
    grammars: Grammars
    base: "LoadedModel | None" = None
    num_users: int = 0


@dataclass(slots=True)
class Lease:
    """Borrowed models by name, and the errors of those that could not be loaded."""

    models: dict[str, LoadedModel] = field(default_factory=dict[str, LoadedModel])
    failures: dict[str, BtchatError] = field(default_factory=dict[str, BtchatError])

    def model(self, name: str) -> LoadedModel:
        """Raises why it could not be had."""
        if name in self.failures:
            raise self.failures[name]
        return self.models[name]
