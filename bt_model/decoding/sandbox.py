"""The limits that a decode child sets on itself before it gets a file."""

import ctypes
import os
import resource
import signal
from dataclasses import dataclass

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


@dataclass(frozen=True, slots=True)
class ChildLimits:
    """Resource limits of a decode child; `cpu_seconds` for each of up to `files` files."""

    cpu_seconds: int = 20
    address_space: int = 4 * 1024**3
    open_files: int = 64
    files: int = 8


def restrict(limits: ChildLimits, parent: int) -> None:
    """Set the limits, forbid writing files and core dumps, and end with the process `parent`.

    A limit that is lower already stays.

    Raises:
        ProcessLookupError: the parent has ended already.
    """
    for kind, most in (
        (resource.RLIMIT_AS, limits.address_space),
        (resource.RLIMIT_CPU, (limits.files + 1) * (limits.cpu_seconds + 1)),
        (resource.RLIMIT_NOFILE, limits.open_files),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        _, hard = resource.getrlimit(kind)
        allowed = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (allowed, allowed))
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # the parent died before prctl
        raise ProcessLookupError(parent)


def allow_cpu(limits: ChildLimits) -> None:
    """Raise the CPU limit for the next file; the kernel ends a process that exceeds it."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    soft = int(used.ru_utime + used.ru_stime) + 1 + limits.cpu_seconds
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (min(soft, hard), hard))
