"""What a decode child gives up before it gets a file: it keeps one readable descriptor in, and frames out."""

import math
import os
import resource
import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from bt_model.decoding.kernel import drop_capabilities, prctl, unshare
from bt_model.decoding.landlock import deny_files
from bt_model.decoding.seccomp import deny_calls

_SET_PDEATHSIG, _SET_NO_NEW_PRIVS = 1, 38  # linux/prctl.h
_NEW_USER, _NEW_NET, _NEW_IPC = 0x10000000, 0x40000000, 0x08000000  # linux/sched.h
_PIXELS = 5_000_000_000  # in `ChildLimits.seconds`; a slow core decodes as many in half of them
_NUM_CPUS = os.cpu_count() or 1  # asked before files can no longer be opened
_OPTIONAL = "namespaces"  # containers forbid them; all they keep out, Landlock and seccomp do as well


@dataclass(frozen=True, slots=True)
class ChildLimits:
    """Resource limits of a decode child, which is replaced after `files` files.

    A file has `seconds`, or in proportion to its pixels, those that must be decoded, up to `most_seconds`.
    """

    seconds: float = 30.0
    most_seconds: float = 300.0
    address_space: int = 4 * 1024**3
    open_files: int = 64
    files: int = 50

    def allowed(self, num_pixels: int) -> float:
        """Seconds for pictures of so many pixels in all."""
        return max(self.seconds, min(self.seconds * num_pixels / _PIXELS, self.most_seconds))


@dataclass(frozen=True, slots=True)
class Sandbox:
    """What holds a decode child: the parts in force, and why others are not."""

    parts: tuple[str, ...]
    missing: tuple[str, ...]

    @property
    def level(self) -> Literal["full", "reduced"]:
        return "reduced" if self.reason else "full"

    @property
    def reason(self) -> str | None:
        """Why it is not full; None where it is."""
        return "; ".join(each for each in self.missing if not each.startswith(_OPTIONAL)) or None


def restrict(limits: ChildLimits, parent: int, *, has_threads: bool = False) -> Sandbox:
    """Set the limits, give up all that this kernel lets be given up, and end with the process `parent`.

    A limit that is lower already stays. Whatever is imported or opened by a path must be so before.

    Args:
        limits: most memory, processor time and descriptors.
        parent: the process that started this one.
        has_threads: the decoder starts threads, as decord does.

    Raises:
        ProcessLookupError: the parent has ended already.
    """
    _set_limits(limits, has_threads=has_threads)
    parts, missing = ["limits"], list[str]()

    def give_up(name: str, step: Callable[[], object]) -> None:
        try:
            step()
            parts.append(name)
        except OSError as error:
            missing.append(f"{name}: {error.strerror}")

    give_up(_OPTIONAL, lambda: unshare(_NEW_USER | _NEW_NET | _NEW_IPC))
    prctl(_SET_PDEATHSIG, signal.SIGKILL)  # new credentials would forget it
    if os.getppid() != parent:  # the parent died before prctl
        raise ProcessLookupError(parent)
    give_up("capabilities", drop_capabilities)
    give_up("no-new-privileges", lambda: prctl(_SET_NO_NEW_PRIVS, 1))
    give_up("landlock", deny_files)
    give_up("seccomp", lambda: deny_calls(has_threads=has_threads))
    return Sandbox(tuple(parts), tuple(missing))


def _set_limits(limits: ChildLimits, *, has_threads: bool) -> None:
    """Bound memory, time and descriptors; no bytes to files, no core dumps, without threads no processes."""
    for kind, most in (
        (resource.RLIMIT_AS, limits.address_space),
        (resource.RLIMIT_CPU, (limits.files + 1) * _cpu_seconds(max(limits.seconds, limits.most_seconds))),
        (resource.RLIMIT_NOFILE, limits.open_files),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        *(() if has_threads else ((resource.RLIMIT_NPROC, 0),)),
    ):
        _, hard = resource.getrlimit(kind)
        allowed = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (allowed, allowed))


def allow_cpu(seconds: float) -> None:
    """Raise the CPU limit for a file that has so long from now on; the kernel ends what exceeds it."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    soft = int(used.ru_utime + used.ru_stime) + _cpu_seconds(seconds)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (min(soft, hard), hard))


def _cpu_seconds(seconds: float) -> int:
    """More than any decoder can use in that time, with all its threads."""
    return 1 + math.ceil(seconds) * _NUM_CPUS
