"""The lines whose tests can notice a fault: its own, or those that use what it defines at import."""

import ast
from collections.abc import Iterator, Mapping

from tests.mutation.mutants import Mutant

_Function = ast.FunctionDef | ast.AsyncFunctionDef
Lines = dict[str, set[int]]


class Focus:
    """Looks things up in the syntax trees of the sources."""

    def __init__(self, texts: Mapping[str, str]) -> None:
        self._trees = {file: ast.parse(text) for file, text in texts.items()}

    def lines(self, mutant: Mutant) -> Lines:
        """Lines to look up; what runs at import runs for every test, so its users stand for it."""
        tree = self._trees[mutant.file]
        around = list(_around(tree, mutant.line))
        if around and isinstance(around[-1], _Function) and _in_body(around[-1], mutant.line):
            return {mutant.file: set(range(mutant.line, mutant.last_line + 1))}
        if around and isinstance(around[-1], _Function):
            return {mutant.file: _body(around[-1])}
        if around:
            return self._of_class(mutant.file, around[-1])
        names = {name for node in tree.body if _holds(node, mutant.line) for name in _assigned(node)}
        used = self._users(names)
        return used or {mutant.file: _functions(tree)}

    def _of_class(self, file: str, node: ast.stmt) -> Lines:
        users = self._users({node.name} if isinstance(node, ast.ClassDef) else set())
        users.setdefault(file, set()).update(_functions(node))
        return users

    def _users(self, names: set[str]) -> Lines:
        """Lines in functions where one of these names is read; where it is read at import, all functions."""
        found: Lines = {}
        for file, tree in self._trees.items():
            inside = _functions(tree)
            read = {line for line, name in _read(tree) if name in names}
            if read & inside:
                found.setdefault(file, set()).update(read & inside)
            if read - inside:
                found.setdefault(file, set()).update(inside)
        return found


def _around(tree: ast.AST, line: int) -> Iterator[ast.stmt]:
    """Classes and functions around a line, the outermost first."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.stmt) and _holds(node, line):
            if isinstance(node, _Function | ast.ClassDef):
                yield node
            yield from _around(node, line)


def _holds(node: ast.stmt, line: int) -> bool:
    decorators = node.decorator_list if isinstance(node, _Function | ast.ClassDef) else []
    first = min([node.lineno, *(each.lineno for each in decorators)])
    return first <= line <= (node.end_lineno or first)


def _body(node: _Function) -> set[int]:
    return set(range(node.body[0].lineno, (node.end_lineno or node.lineno) + 1))


def _in_body(node: _Function, line: int) -> bool:
    return line in _body(node)


def _functions(node: ast.AST) -> set[int]:
    return {line for each in ast.walk(node) if isinstance(each, _Function) for line in _body(each)}


def _assigned(node: ast.stmt) -> Iterator[str]:
    targets = node.targets if isinstance(node, ast.Assign) else []
    if isinstance(node, ast.AnnAssign):
        targets = [node.target]
    for target in targets:
        yield from (each.id for each in ast.walk(target) if isinstance(each, ast.Name))


def _read(tree: ast.AST) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name, ctx=ast.Load()) | ast.Attribute(attr=name, ctx=ast.Load()):
                yield node.lineno, name
            case _:
                pass
