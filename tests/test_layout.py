"""The rules of the house: folders, sizes, names and imports, read from the source."""

import ast
import re
from collections import defaultdict
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parents[1]
ROOMS = ("btchat", "server", "bt_model", "lab")
FILES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for room in ROOMS
    for path in sorted((ROOT / room).rglob("*.py"))
}
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in FILES.items()}


def test_the_tree_of_contributing_names_every_folder_and_no_other() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    tree = text.split("## Where things are", 1)[1].split("```")[1]
    shown: list[Path] = []
    path: list[str] = []
    for indent, name in re.findall(r"^( *)([a-z_]+)/", tree, flags=re.M):
        path = [*path[: len(indent) // 2], name]
        shown.append(Path(*path))
    there = {path.parent.relative_to(ROOT) for path in FILES.values()}
    assert {path for path in shown if path.parts[0] in ROOMS} == there
    assert [path for path in shown if not (ROOT / path).is_dir()] == []


def test_few_files_stand_at_the_top_of_a_room() -> None:
    for room, most in (("server", 8), ("bt_model", 6), ("btchat", 8)):
        assert len(list((ROOT / room).glob("*.py"))) <= most, room


def test_no_file_is_longer_than_300_lines() -> None:
    lines = {name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in FILES.items()}
    assert {name: count for name, count in lines.items() if count > 300} == {}


def test_no_function_is_longer_than_40_lines() -> None:
    long = {
        f"{name}.{node.name}": size
        for name, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and (size := _num_lines(node)) > 40
    }
    assert long == {}


def _num_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Without the docstring."""
    docstring = ast.get_docstring(function, clean=False)
    assert function.end_lineno is not None
    return function.end_lineno - function.lineno + 1 - (docstring.count("\n") + 1 if docstring else 0)


def test_no_class_name_stands_for_two_ideas() -> None:
    places: dict[str, list[str]] = defaultdict(list)
    for name, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                places[node.name].append(name)
    twice = {name: where for name, where in places.items() if len(where) > 1}
    assert {name: where for name, where in twice.items() if not _are_ends_of_a_wire(where)} == {}


def _are_ends_of_a_wire(places: list[str]) -> bool:
    """What a server sends and what the client, which cannot import it, reads of it: one idea."""
    client, *rest = sorted(places)
    return client.startswith("btchat.client.") and [each.startswith("server.bodies.") for each in rest] == [
        True
    ]


# state of something that runs; everything else that is a dataclass is a value, and stays what it is
CHANGING = {
    "Converted", "Inbox", "Job", "Lease", "LoadedModel", "Progress", "ResponseShape", "Trained", "_Flight",
    "_Node", "_Open", "_Slot"
}  # fmt: skip


def test_every_dataclass_is_slotted_and_all_but_state_are_frozen() -> None:
    changing, loose = set[str](), set[str]()
    for tree in TREES.values():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef) and (given := _dataclass_flags(node)) is not None:
                changing |= set() if given.get("frozen") else {node.name}
                loose |= set() if given.get("slots") else {node.name}
    assert (changing, loose) == (CHANGING, set())


def _dataclass_flags(node: ast.ClassDef) -> dict[str, bool] | None:
    """The flags of a class's `@dataclass(…)`; None without one."""
    for each in node.decorator_list:
        call = each if isinstance(each, ast.Call) else ast.Call(each, [], [])
        if isinstance(call.func, ast.Name) and call.func.id == "dataclass":
            return {str(word.arg): ast.literal_eval(word.value) for word in call.keywords}
    return None


CLIENTS = {
    "aiohttp", "anyio", "ftplib", "http.client", "httpcore", "httpx", "huggingface_hub", "poplib", "requests",
    "smtplib", "urllib.request", "urllib3", "websockets", "xmlrpc.client",
}  # fmt: skip
DIALS = {"connect", "connect_ex", "connect_tcp", "create_connection", "open_connection", "sendto"}


def test_only_the_fetcher_of_a_server_calls_a_host() -> None:
    callers = {
        f"{name}: {ast.unparse(node)}"
        for name, tree in TREES.items()
        if name.startswith(("server.", "bt_model."))
        for node in ast.walk(tree)
        if _calls(node)
    }
    of_a_protocol = ("frames import CloseCode, Frame", "http11 import Request")  # which dial nobody
    sockets = {f"server.connections.sockets: from websockets.{each}" for each in of_a_protocol}
    assert callers == {"server.fetching.fetcher: import httpcore", *sockets}


def _calls(node: ast.AST) -> bool:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        return node.func.attr in DIALS and ast.unparse(node.func.value) not in ("sqlite3", "self.disk")
    names: list[str] = []
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
        names = [f"{node.module}.{alias.name}" for alias in node.names]
    return any(f"{name}.".startswith(f"{client}.") for name in names for client in CLIENTS)


def test_no_file_imports_itself_through_others() -> None:
    """Also not late, within a function, nor for type checkers alone."""
    try:
        TopologicalSorter({name: _imports(tree) - {name} for name, tree in TREES.items()}).prepare()
    except CycleError as error:
        raise AssertionError(f"a circle: {' -> '.join(error.args[1])}") from error


def _imports(tree: ast.Module) -> set[str]:
    """The files of the house that a file names in its imports."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}"
                found.add(submodule if submodule in FILES else node.module)
    return found & set(FILES)
