"""Which files a file reaches through imports, those in functions and those by name in a string included."""

import ast
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import PurePath


class Imports:
    """The import graph of a tree; a string that names a module counts, as children are started by name."""

    def __init__(self, texts: Mapping[str, str]) -> None:
        self._texts = texts
        self._reached: dict[str, frozenset[str]] = {}

    @cached_property
    def _modules(self) -> dict[str, str]:
        return {_module(file): file for file in self._texts}

    @cached_property
    def _edges(self) -> dict[str, frozenset[str]]:
        return {file: frozenset(self._imported(file, text)) for file, text in self._texts.items()}

    def reached(self, file: str) -> frozenset[str]:
        """All files that may be loaded with this one, itself included."""
        if file not in self._reached:
            seen, todo = {file}, [file]
            while todo:
                new = self._edges[todo.pop()] - seen
                seen |= new
                todo += new
            self._reached[file] = frozenset(seen)
        return self._reached[file]

    def _imported(self, file: str, text: str) -> Iterator[str]:
        for parent in PurePath(file).parents:  # pytest loads these by itself
            if (conftest := str(parent / "conftest.py")) in self._texts and file.startswith("tests/"):
                yield conftest
        for node in ast.walk(ast.parse(text)):
            for name in _names(node, _module(file)):
                yield from self._files(name)

    def _files(self, name: str) -> Iterator[str]:
        """A module's own file, and the packages above it."""
        if name in self._modules:
            parts = name.split(".")
            above = (".".join(parts[:count]) for count in range(1, len(parts) + 1))
            yield from (self._modules[each] for each in above if each in self._modules)


def _names(node: ast.AST, module: str) -> Iterator[str]:
    match node:
        case ast.Import(names=aliases):
            yield from (alias.name for alias in aliases)
        case ast.ImportFrom(module=source, names=aliases, level=level):
            base = source or ""
            if level:
                base = ".".join([*module.split(".")[:-level], *([source] if source else [])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in aliases)
        case ast.Constant(value=str(text)):
            name = text.partition(":")[0]
            yield name
            yield f"{name}.__main__"  # python -m package
        case _:
            pass


def _module(file: str) -> str:
    name = file.removesuffix(".py").replace("/", ".")
    return name.removesuffix(".__init__")
