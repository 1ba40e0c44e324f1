"""Backends that installed packages announce: found by name, refused clearly."""

from importlib.metadata import EntryPoint, EntryPoints

import pytest

from bt_model.backends import registry
from bt_model.backends.registry import GROUP, factory, names, origins
from bt_model.errors import BtchatError, UnknownNameError


def announce(monkeypatch: pytest.MonkeyPatch, **targets: str) -> None:
    def found(*, group: str) -> EntryPoints:
        assert group == GROUP
        return EntryPoints(EntryPoint(name, target, group) for name, target in targets.items())

    monkeypatch.setattr(registry, "entry_points", found)


def test_a_module_or_a_function_of_it_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    announce(monkeypatch, one="bt_model.backends.echo", two="bt_model.backends.echo:create")
    assert {"one", "two"} <= set(names())
    assert factory("one") is factory("two") is factory("echo")


def test_a_name_that_is_taken_is_refused_with_both(monkeypatch: pytest.MonkeyPatch) -> None:
    announce(monkeypatch, llava="other.package")
    with pytest.raises(
        BtchatError, match=r"announced by btchat \(bt_model.backends.llava\) and .*other.package"
    ):
        factory("llava")
    assert factory("echo")
    assert [origin.target for origin in origins()].count("other.package") == 1


@pytest.mark.parametrize(
    ("target", "why"),
    [
        ("no_such_package.backend", "ModuleNotFoundError"),
        ("bt_model.backends.echo:nothing", "AttributeError"),
        ("antigravity_that_is_not_there:create", "ModuleNotFoundError"),
    ],
)
def test_what_cannot_be_imported_is_named(monkeypatch: pytest.MonkeyPatch, target: str, why: str) -> None:
    announce(monkeypatch, broken=target)
    with pytest.raises(BtchatError, match=f"backend 'broken' of .* cannot be imported: {why}"):
        factory("broken")
    assert factory("echo")


def test_an_unknown_name_lists_the_announced_too(monkeypatch: pytest.MonkeyPatch) -> None:
    announce(monkeypatch, mirror="btchat_mirror.backend")
    with pytest.raises(UnknownNameError, match=r"allowed: echo, llava, .*mirror"):
        factory("nothing")
