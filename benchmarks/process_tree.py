"""CPU seconds and memory of a process and everything below it, from /proc."""

import os
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
PARENT, USER, KERNEL, REAPED_USER, REAPED_KERNEL = 1, 11, 12, 13, 14  # fields of stat after the name


def tree(pid: int) -> list[int]:
    """The process and all its descendants that live now."""
    parents = {
        int(p.name): int(_stat(p)[PARENT]) for p in Path("/proc").iterdir() if p.name.isdigit() and _stat(p)
    }
    found = [pid]
    for parent in found:
        found += [child for child, its_parent in parents.items() if its_parent == parent]
    return found


def cpu_seconds(pid: int) -> float:
    """User and kernel seconds of the tree, with those of children that ended."""
    total = 0
    for member in tree(pid):
        fields = _stat(Path("/proc", str(member)))
        total += sum(int(fields[i]) for i in (USER, KERNEL, REAPED_USER, REAPED_KERNEL)) if fields else 0
    return total / TICKS


def peak_bytes(pid: int) -> dict[str, int]:
    """Largest resident size of each member of the tree, by what it is."""
    peaks: dict[str, int] = {}
    for member in tree(pid):
        folder = Path("/proc", str(member))
        try:
            status = dict(
                line.split(":\t", 1) for line in (folder / "status").read_text().splitlines() if ":\t" in line
            )
            command = (folder / "cmdline").read_text().split("\0")
        except OSError:
            continue
        name = next((part for part in command if part.startswith("server")), status["Name"])
        peaks[f"{name} {member}"] = 1024 * int(status["VmHWM"].split()[0])
    return peaks


def _stat(folder: Path) -> list[str]:
    try:
        return (folder / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []
