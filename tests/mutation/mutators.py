"""The kinds of planted faults: what each turns a node of a syntax tree into."""

import ast
import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

_NEGATED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Lt: ast.GtE,
    ast.GtE: ast.Lt,
    ast.Gt: ast.LtE,
    ast.LtE: ast.Gt,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
}
_BOUNDARY: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
}
_ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
}
_LOGGERS = frozenset({"log", "logger", "_logger", "logging"})
_SWAPPED = {"min": "max", "max": "min"}
_TWO = 2


@dataclass(frozen=True, slots=True)
class Around:
    """What a mutator may ask about a node's surroundings."""

    parent: ast.AST | None
    function: ast.FunctionDef | ast.AsyncFunctionDef | None
    locks: frozenset[str]  # names of locks in this file


@dataclass(frozen=True, slots=True)
class Change:
    """Source from `first` to the end of `last` is to read `text`."""

    first: ast.AST
    last: ast.AST
    text: str

    @classmethod
    def of(cls, node: ast.AST, new: ast.AST | str) -> "Change":
        return cls(node, node, new if isinstance(new, str) else ast.unparse(new))


Mutator = Callable[[ast.AST, Around], Iterator[Change]]


def _operators(node: ast.AST, table: dict[type[ast.cmpop], type[ast.cmpop]]) -> Iterator[Change]:
    if isinstance(node, ast.Compare):
        for i, op in enumerate(node.ops):
            if new := table.get(type(op)):
                yield Change.of(node, _with(node, ops=[*node.ops[:i], new(), *node.ops[i + 1 :]]))


def _compare(node: ast.AST, _: Around) -> Iterator[Change]:
    return _operators(node, _NEGATED)


def _boundary(node: ast.AST, _: Around) -> Iterator[Change]:
    return _operators(node, _BOUNDARY)


def _and_or(node: ast.AST, _: Around) -> Iterator[Change]:
    if isinstance(node, ast.BoolOp):
        yield Change.of(node, _with(node, op=ast.Or() if isinstance(node.op, ast.And) else ast.And()))


def _not(node: ast.AST, _: Around) -> Iterator[Change]:
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield Change.of(node, node.operand)


def _condition(node: ast.AST, _: Around) -> Iterator[Change]:
    tests = [node.test] if isinstance(node, ast.If | ast.IfExp) else []
    if isinstance(node, ast.comprehension):
        tests = node.ifs
    for test in tests:
        # the negation of a single comparison or of a `not` is planted by the kinds above
        is_single = isinstance(test, ast.Compare) and len(test.ops) == 1
        if not is_single and not (isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not)):
            yield Change.of(test, ast.UnaryOp(ast.Not(), test))


def _constant(node: ast.AST, around: Around) -> Iterator[Change]:
    if not isinstance(node, ast.Constant):
        return
    match node.value:
        case bool():
            if not isinstance(around.parent, ast.keyword):  # those are flags
                yield Change.of(node, str(not node.value))
        case int():
            yield Change.of(node, str(node.value + 1))
        case float():
            yield Change.of(node, repr(node.value * 1.5 or 1.0))
        case str() if " " not in node.value:  # with a blank it is text for people
            yield Change.of(node, repr(f"{node.value}x"))
        case _:
            pass


def _flag(node: ast.AST, _: Around) -> Iterator[Change]:
    if isinstance(node, ast.keyword) and node.arg != "slots":
        value = node.value
        if isinstance(value, ast.Constant) and isinstance(value.value, bool):
            yield Change.of(value, str(not value.value))


def _arithmetic(node: ast.AST, _: Around) -> Iterator[Change]:
    if isinstance(node, ast.BinOp) and (new := _ARITHMETIC.get(type(node.op))):
        if _is_text(node.left) or _is_text(node.right):
            return  # joined text or a path: any other operator is a TypeError
        yield Change.of(node, _with(node, op=new()))
    if isinstance(node, ast.AugAssign) and (new := _ARITHMETIC.get(type(node.op))):
        yield Change.of(node, _with(node, op=new()))


def _return(node: ast.AST, around: Around) -> Iterator[Change]:
    if not isinstance(node, ast.Return) or node.value is None or around.function is None:
        return
    says = around.function.returns
    if isinstance(says, ast.Name) and says.id == "bool":
        yield Change.of(node, ast.Return(ast.UnaryOp(ast.Not(), node.value)))
    elif not (isinstance(node.value, ast.Constant) and node.value.value is None):
        yield Change.of(node, "return None")


def _raise(node: ast.AST, _: Around) -> Iterator[Change]:
    if isinstance(node, ast.Raise):
        yield Change.of(node, "pass")


def _statement(node: ast.AST, _: Around) -> Iterator[Change]:
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        yield Change.of(node, "pass")


def _await(node: ast.AST, _: Around) -> Iterator[Change]:
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Await):
        yield Change.of(node, "pass")


def _min_max(node: ast.AST, _: Around) -> Iterator[Change]:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _SWAPPED:
        yield Change.of(node.func, _SWAPPED[node.func.id])


def _arguments(node: ast.AST, _: Around) -> Iterator[Change]:
    if not isinstance(node, ast.Call) or len(node.args) < _TWO:
        return
    if isinstance(node.func, ast.Name) and node.func.id in _SWAPPED:  # which do not look at the order
        return
    for i, (first, second) in enumerate(pairwise(node.args)):
        is_starred = isinstance(first, ast.Starred) or isinstance(second, ast.Starred)
        if not is_starred and ast.dump(first) != ast.dump(second):
            args = [*node.args[:i], second, first, *node.args[i + _TWO :]]
            yield Change.of(node, _with(node, args=args))


def _lock(node: ast.AST, around: Around) -> Iterator[Change]:
    if not isinstance(node, ast.With | ast.AsyncWith):
        return
    for item in node.items:
        if name_of(item.context_expr) not in around.locks:
            continue
        if len(node.items) == 1 and item.optional_vars is None:
            yield Change(node, item.context_expr, "if True")
        else:
            yield Change.of(item.context_expr, '__import__("contextlib").nullcontext()')


KINDS: dict[str, Mutator] = {
    "compare": _compare,
    "boundary": _boundary,
    "and/or": _and_or,
    "not": _not,
    "condition": _condition,
    "constant": _constant,
    "flag": _flag,
    "arithmetic": _arithmetic,
    "return": _return,
    "raise": _raise,
    "statement": _statement,
    "await": _await,
    "min/max": _min_max,
    "arguments": _arguments,
    "lock": _lock,
}
HALF_WEIGHT = frozenset({"constant", "arguments"})  # there are very many of them


def name_of(node: ast.AST) -> str:
    """The last name of `self._lock`, `lock` or `lock()`."""
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
        case ast.Call(func=func):
            return name_of(func)
        case _:
            return ""


def is_logging(call: ast.Call) -> bool:
    """Whether this is `log.info(...)` or the like, which no test has to notice."""
    func = call.func
    return isinstance(func, ast.Attribute) and name_of(func.value) in _LOGGERS


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))


def _with(node: ast.AST, **fields: object) -> ast.AST:
    new = copy.copy(node)
    for name, value in fields.items():
        setattr(new, name, value)
    return new
