"""Schemas of answers, compiled beside everything else."""

from collections import Counter
from typing import TYPE_CHECKING

from bt_model.grammar.grammars import Grammar
from server.engine import wire
from server.worker.loaded import LoadedModel
from server.worker.thread import WorkThread
from server.worker.vision import NICENESS

if TYPE_CHECKING:
    from server.worker.models import ModelPool

_WEIGHT = 10_000_000  # of one that waits: as much as ten seconds of waiting


class SchemaCompiler:
    """Compiles one schema at a time; who has many waiting lets those pass who have few."""

    def __init__(self) -> None:
        self.thread = WorkThread("schemas", NICENESS)
        self._waiting: Counter[str] = Counter()

    async def grammar(self, model: LoadedModel, owner: str, schema: str | None) -> Grammar | None:
        """What an answer follows; None where it is free.

        Raises:
            InvalidValueError: the model cannot follow it.
            EngineError: this machine is too busy to tell.
        """
        if schema is None:
            return None
        if (known := model.grammars.known(schema)) is not None:
            return known
        self._waiting[owner] += 1
        try:
            weight = self._waiting[owner] * _WEIGHT
            return await self.thread.run(model.grammars.get, schema, weight=weight)
        finally:
            self._waiting[owner] -= 1
            self._waiting += Counter[str]()  # only those above 0 stay

    async def compiled(self, message: wire.Compile, models: "ModelPool") -> wire.Compiled:
        """Make a model ready to answer by a schema; raises as `grammar`, or why the model cannot be had."""
        async with models.borrowed([message.model]) as lease:
            await self.grammar(lease.model(message.model), message.owner, message.schema)
        return wire.Compiled(message.id)
