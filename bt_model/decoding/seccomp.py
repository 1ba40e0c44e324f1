"""Seccomp: of all system calls a decoder keeps those that it needs, on what it holds already.

A table of numbers, a table of rules, and the BPF program made of them (linux/seccomp.h, linux/filter.h).
Whatever is not listed fails with EPERM, as in a container: so new paths, sockets, processes and code do.
"""

import ctypes
import errno
import fcntl
import os
import platform
import resource
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from bt_model.decoding.kernel import syscall

_PROT_EXEC = 4
_STDERR = 2
# what a thread of the GNU C library or of musl shares with its creator, which is everything
_THREADS = (0x3D0F00, 0x7D0F00)


@dataclass(frozen=True, slots=True)
class _Argument:
    """A condition on an argument's lower 32 bits: it is one of these, or has none of the bits `without`."""

    place: int
    one_of: Sequence[int] = ()
    without: int = 0


@dataclass(frozen=True, slots=True)
class _Architecture:
    """An architecture: its AUDIT_ARCH and its numbers of system calls."""

    audit: int
    numbers: Mapping[str, int]


# fmt: off
_NAMES = (
    "read", "pread64", "readv", "lseek", "fstat", "close", "ftruncate", "recvmsg", "recvfrom", "sendto",
    "munmap", "mremap", "madvise", "brk", "futex", "exit", "exit_group", "getpid", "gettid",
    "rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "sigaltstack", "restart_syscall",
    "clock_gettime", "clock_getres", "clock_nanosleep", "nanosleep", "gettimeofday", "getrandom", "getrusage",
    "sched_yield", "sched_getaffinity", "set_robust_list", "rseq",
    "write", "writev", "mmap", "mprotect", "fcntl", "prlimit64", "tgkill", "clone", "clone3", "seccomp",
)
_ARCHITECTURES = {
    "x86_64": _Architecture(0xC000003E, dict(zip(_NAMES, (
        0, 17, 19, 8, 5, 3, 77, 47, 45, 44,
        11, 25, 28, 12, 202, 60, 231, 39, 186,
        13, 14, 15, 131, 219,
        228, 229, 230, 35, 96, 318, 98,
        24, 204, 273, 334,
        1, 20, 9, 10, 72, 302, 234, 56, 435, 317,
    ), strict=True))),
    "aarch64": _Architecture(0xC00000B7, dict(zip(_NAMES, (
        63, 67, 65, 62, 80, 57, 46, 212, 207, 206,
        215, 216, 233, 214, 98, 93, 94, 172, 178,
        134, 135, 139, 132, 128,
        113, 114, 115, 101, 169, 278, 165,
        124, 123, 99, 293,
        64, 66, 222, 226, 25, 261, 131, 220, 435, 277,
    ), strict=True))),
}
# fmt: on
_CONDITIONAL = _NAMES[_NAMES.index("write") :]


def _rules(has_threads: bool) -> dict[str, tuple[_Argument, ...]]:
    """The allowed calls with the conditions that all must hold."""
    only_data = (_Argument(2, without=_PROT_EXEC),)
    itself = _Argument(0, one_of=(os.getpid(),))
    rules: dict[str, tuple[_Argument, ...]] = {name: () for name in _NAMES if name not in _CONDITIONAL}
    rules |= {
        "write": (_Argument(0, one_of=(_STDERR,)),),
        "writev": (_Argument(0, one_of=(_STDERR,)),),
        "mmap": only_data,
        "mprotect": only_data,
        # fcntl could make the kernel send signals to others
        "fcntl": (_Argument(1, one_of=(fcntl.F_DUPFD_CLOEXEC, fcntl.F_ADD_SEALS, fcntl.F_GETFD)),),
        "prlimit64": (_Argument(0, one_of=(0,)), _Argument(1, one_of=(resource.RLIMIT_CPU,))),
        "tgkill": (itself,),  # abort()
    }
    if has_threads:
        rules["clone"] = (_Argument(0, one_of=_THREADS),)
    return rules


_LOAD, _IF_EQUAL, _IF_BITS, _RETURN = 0x20, 0x15, 0x45, 0x06
_ALLOW, _KILL = 0x7FFF0000, 0x80000000
_DENY, _UNKNOWN = 0x00050000 | errno.EPERM, 0x00050000 | errno.ENOSYS
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16  # where they are in what the filter sees
_SET_FILTER, _ALL_THREADS = 1, 1

_Step = tuple[int, int, int, int]  # operation, steps to skip where true, where false, value


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("steps", ctypes.c_void_p))


def deny_calls(*, has_threads: bool) -> str:
    """Keep the calls of a decoder, with one thread or, for decord, with several. Needs no-new-privileges.

    Raises:
        OSError: the kernel has no filters, or this machine's numbers are not listed here.
    """
    machine = _ARCHITECTURES.get(platform.machine())
    if machine is None:
        raise OSError(errno.ENOSYS, f"no table of system calls for {platform.machine()}")
    steps = [*_filter(machine, _rules(has_threads))]
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in steps))
    program = _Program(len(steps), ctypes.addressof(code))
    if thread := syscall(machine.numbers["seccomp"], _SET_FILTER, _ALL_THREADS, ctypes.addressof(program)):
        raise OSError(errno.EPERM, f"thread {thread} cannot have the filter")
    return platform.machine()


def _filter(machine: _Architecture, rules: Mapping[str, Sequence[_Argument]]) -> Iterator[_Step]:
    yield (_LOAD, 0, 0, _ARCHITECTURE)
    yield (_IF_EQUAL, 1, 0, machine.audit)
    yield (_RETURN, 0, 0, _KILL)  # calls of another architecture have other numbers
    yield (_LOAD, 0, 0, _NUMBER)
    for name, conditions in rules.items():
        block = [step for condition in conditions for step in _check(condition)] + [(_RETURN, 0, 0, _ALLOW)]
        yield (_IF_EQUAL, 0, len(block), machine.numbers[name])
        yield from block
    yield (_IF_EQUAL, 0, 1, machine.numbers["clone3"])
    yield (_RETURN, 0, 0, _UNKNOWN)  # its flags cannot be seen; the C library takes clone then
    yield (_RETURN, 0, 0, _DENY)


def _check(condition: _Argument) -> Iterator[_Step]:
    """Go on behind these steps where the condition holds."""
    yield (_LOAD, 0, 0, _ARGUMENTS + 8 * condition.place)
    if condition.without:
        yield (_IF_BITS, 0, 1, condition.without)
    for left, value in zip(range(len(condition.one_of), 0, -1), condition.one_of, strict=True):
        yield (_IF_EQUAL, left, 0, value)
    yield (_RETURN, 0, 0, _DENY)
