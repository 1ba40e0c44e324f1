"""The exact versions of constraints/ cover what pyproject.toml names."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
TOML = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = TOML["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
LINE = re.compile(r"([a-z0-9-]+)==([a-z0-9.]+)( ; .+)?")  # no address, no path, no build of one index (+cpu)


def pins(name: str) -> dict[str, str]:
    lines = (ROOT / "constraints" / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    found = {line: LINE.fullmatch(line) for line in lines if not line.startswith("#")}
    assert [line for line, match in found.items() if match is None] == []
    return {match[1]: match[2] for match in found.values() if match}


def wanted(lines: list[str]) -> dict[str, Requirement]:
    """Requirements by name, with those of extras that name further extras of this distribution."""
    result: dict[str, Requirement] = {}
    for line in lines:
        requirement = Requirement(line)
        if requirement.name == PROJECT["name"]:
            for extra in requirement.extras:
                result |= wanted(EXTRAS[extra])
        else:
            result[canonicalize_name(requirement.name)] = requirement
    return result


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("cpu", [*PROJECT["dependencies"], *EXTRAS["all"]]),
        ("cuda", [*PROJECT["dependencies"], *EXTRAS["all"]]),
        ("dev", [*PROJECT["dependencies"], *EXTRAS["dev"]]),
        ("image", TOML["dependency-groups"]["image"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_every_requirement_has_an_exact_version_within_its_range(name: str, asked: list[str]) -> None:
    pinned = pins(name)
    named = wanted(asked)
    assert len(named) >= len(asked)
    assert [each for each in named if each not in pinned] == []
    out_of_range = {
        each: pinned[each] for each, rule in named.items() if not rule.specifier.contains(pinned[each])
    }
    assert out_of_range == {}


def test_no_list_forgets_an_extra_but_the_one_that_is_compiled_from_source() -> None:
    covered = wanted([*EXTRAS["all"], *EXTRAS["dev"]]).keys()
    assert {name for name in EXTRAS if wanted(EXTRAS[name]).keys() - covered} == {"flash"}


def test_cuda_has_its_libraries_and_nothing_else_that_the_cpu_has_not() -> None:
    cpu, cuda = pins("cpu"), pins("cuda")
    libraries = {name for name in cuda if re.match(r"nvidia-|cuda-|triton$", name)}
    assert {"triton", "nvidia-cublas"} <= libraries
    assert cpu == {name: version for name, version in cuda.items() if name not in libraries}


def test_a_package_has_one_version_whether_for_running_or_for_development() -> None:
    cpu, dev = pins("cpu"), pins("dev")
    assert {name for name in cpu.keys() & dev.keys() if cpu[name] != dev[name]} == set()
