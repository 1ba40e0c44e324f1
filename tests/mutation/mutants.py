"""Every fault that can be planted in a source file, and where it stands."""

import ast
import difflib
from collections.abc import Iterator
from dataclasses import dataclass

from tests.mutation.mutators import KINDS, Around, Change, is_logging, name_of

_LOCK_TYPES = frozenset({"Lock", "RLock", "Condition", "Semaphore", "BoundedSemaphore"})
_TYPE_CALLS = frozenset({"cast", "TypeVar", "NewType", "ParamSpec"})
_PROSE_KEYWORDS = frozenset({"help", "description", "metavar", "epilog"})
_OPERATION = (ast.BinOp, ast.BoolOp, ast.Compare, ast.UnaryOp)
_Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, slots=True)
class Mutant:
    """One planted fault: characters `start` to `end` of a file read `text`."""

    file: str
    line: int
    last_line: int
    kind: str
    scope: str  # Class.function around it; "" at the top of the module
    start: int
    end: int
    text: str
    before: str  # the changed lines, without indentation
    after: str

    @property
    def place(self) -> str:
        return f"{self.file}:{self.line}"

    @property
    def key(self) -> str:
        return f"{self.file}:{self.start}:{self.end}:{self.kind}:{self.text}"

    def planted(self, source: str) -> str:
        return source[: self.start] + self.text + source[self.end :]

    def diff(self, source: str) -> list[str]:
        """The lines that a reader needs to see, with - and +."""
        lines = difflib.unified_diff(source.splitlines(), self.planted(source).splitlines(), lineterm="", n=0)
        return [line for line in lines if not line.startswith(("---", "+++", "@@"))]


def mutants(file: str, source: str) -> list[Mutant]:
    """All mutants of one file, in the order of its text."""
    tree = ast.parse(source)
    found: dict[tuple[int, int, str], Mutant] = {}
    for mutant in _Walk(file, source, tree).mutants():
        if _is_code(mutant.planted(source)):
            found.setdefault((mutant.start, mutant.end, mutant.text), mutant)
    return sorted(found.values(), key=lambda mutant: (mutant.start, mutant.end, mutant.kind))


def lock_names(tree: ast.AST) -> frozenset[str]:
    """Names that a file gives to locks and conditions; a name that says lock is one as well."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Call):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if name_of(node.value.func) in _LOCK_TYPES:
                names.update(map(name_of, targets))
        if isinstance(node, ast.With | ast.AsyncWith):
            held = (name_of(item.context_expr) for item in node.items if not _is_call(item.context_expr))
            names.update(name for name in held if name.endswith(("lock", "mutex")))
    return frozenset(names - {""})


class _Walk:
    """Goes through one tree and knows what is around each node."""

    def __init__(self, file: str, source: str, tree: ast.Module) -> None:
        self._file, self._source, self._tree = file, source, tree
        self._locks = lock_names(tree)
        self._lines = source.splitlines(keepends=True)
        self._starts = [0]
        for line in self._lines:
            self._starts.append(self._starts[-1] + len(line))

    def mutants(self) -> Iterator[Mutant]:
        for node in self._tree.body:
            yield from self._visit(node, self._tree, None, "")

    def _visit(
        self, node: ast.AST, parent: ast.AST, function: _Function | None, scope: str
    ) -> Iterator[Mutant]:
        if is_left_out(node, parent):
            return
        around = Around(parent, function, self._locks)
        if isinstance(node, _Function | ast.ClassDef):
            scope = f"{scope}.{node.name}" if scope else node.name
        if isinstance(node, _Function):
            function = node
        for kind, mutator in KINDS.items():
            for change in mutator(node, around):
                yield self._mutant(kind, change, parent if change.first is node else node, scope)
        for child in ast.iter_child_nodes(node):
            yield from self._visit(child, node, function, scope)

    def _mutant(self, kind: str, change: Change, parent: ast.AST, scope: str) -> Mutant:
        first, last = _Place.of(change.first), _Place.of(change.last)
        start, end = self._offset(first.line, first.column), self._offset(last.last_line, last.end_column)
        text = change.text
        if isinstance(change.first, _OPERATION) and isinstance(parent, _OPERATION):
            text = f"({text})"
        line_start, line_end = self._starts[first.line - 1], self._starts[last.last_line]
        before = self._source[line_start:line_end]
        after = f"{self._source[line_start:start]}{text}{self._source[end:line_end]}"
        return Mutant(
            file=self._file,
            line=first.line,
            last_line=last.last_line,
            kind=kind,
            scope=scope,
            start=start,
            end=end,
            text=text,
            before=" ".join(before.split()),
            after=" ".join(after.split()),
        )

    def _offset(self, line: int, column: int) -> int:
        """Columns of syntax trees count UTF-8 bytes."""
        return self._starts[line - 1] + len(self._lines[line - 1].encode()[:column].decode())


@dataclass(frozen=True, slots=True)
class _Place:
    line: int
    column: int
    last_line: int
    end_column: int

    @classmethod
    def of(cls, node: ast.AST) -> "_Place":
        assert isinstance(node, ast.stmt | ast.expr), node
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        return cls(node.lineno, node.col_offset, node.end_lineno, node.end_col_offset)


def is_left_out(node: ast.AST, parent: ast.AST) -> bool:
    """What never runs, is read by type checkers only, or is text for people."""
    match node:
        case ast.JoinedStr() | ast.Expr(value=ast.Constant()):
            # parts of f-strings have no exact places before Python 3.12; docstrings and ... do nothing
            return True
        case ast.Expr(value=ast.Call() as call) if is_logging(call):
            return True
        case ast.keyword(arg=name):
            return name in _PROSE_KEYWORDS
        case ast.expr():
            return _is_for_types(node, parent) or _is_union(node, parent)
        case _:
            return _never_runs(node)


def _never_runs(node: ast.AST) -> bool:
    match node:
        case ast.If(test=test):
            return name_of(test) == "TYPE_CHECKING" or _is_main_guard(test)
        case ast.ClassDef(bases=bases):
            return any(name_of(_unsubscripted(base)) == "Protocol" for base in bases)
        case ast.FunctionDef(decorator_list=decorators) | ast.AsyncFunctionDef(decorator_list=decorators):
            return any(name_of(each) in {"overload", "abstractmethod"} for each in decorators)
        case _:
            return False


def _is_for_types(node: ast.expr, parent: ast.AST) -> bool:
    if isinstance(parent, ast.arg | ast.AnnAssign):
        return node is parent.annotation
    if isinstance(parent, _Function):
        return node is parent.returns
    if isinstance(parent, ast.Subscript):
        return node is parent.slice and name_of(parent.value) in {"Literal", "Annotated"}
    if isinstance(parent, ast.Call) and name_of(parent.func) in _TYPE_CALLS:
        return node is parent.args[0]
    # `raise Error("word")`: a message, not a value
    is_text = isinstance(node, ast.Constant) and isinstance(node.value, str)
    return is_text and isinstance(parent, ast.Call) and name_of(parent.func).endswith("Error")


def _is_union(node: ast.expr, parent: ast.AST) -> bool:
    """`Name = A | B` is a type and not arithmetic."""
    if not isinstance(node, ast.BinOp) or not isinstance(node.op, ast.BitOr):
        return False
    sides = [name_of(_unsubscripted(side)) for side in (node.left, node.right)]
    return isinstance(parent, ast.Assign | ast.BinOp | ast.Call) and all(
        side[:1].isupper() and not side.isupper() for side in sides if side
    )


def _unsubscripted(node: ast.expr) -> ast.expr:
    return node.value if isinstance(node, ast.Subscript) else node


def _is_main_guard(test: ast.expr) -> bool:
    return isinstance(test, ast.Compare) and name_of(test.left) == "__name__"


def _is_call(node: ast.AST) -> bool:
    return isinstance(node, ast.Call)


def _is_code(source: str) -> bool:
    try:
        ast.parse(source)
    except SyntaxError:
        return False
    return True
