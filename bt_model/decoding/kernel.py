"""Calls of the kernel that Python has no function for; each raises OSError."""

import ctypes
import os

_LIBC = ctypes.CDLL(None, use_errno=True)
_CAPABILITY_VERSION_3 = 0x20080522  # linux/capability.h


def syscall(number: int, *arguments: int | None) -> int:
    """A system call by its number; None is a null pointer."""
    return _checked(_LIBC.syscall(ctypes.c_long(number), *_words(arguments)))


def prctl(option: int, *arguments: int) -> int:
    """An operation on this process; missing arguments are 0, as the kernel demands of some."""
    return _checked(_LIBC.prctl(ctypes.c_int(option), *_words((*arguments, 0, 0, 0, 0)[:4])))


def unshare(flags: int) -> int:
    """Leave the namespaces that the flags name, for new ones."""
    return _checked(_LIBC.unshare(ctypes.c_int(flags)))


def drop_capabilities() -> int:
    """Give up what a privileged user may do."""
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    return _checked(_LIBC.capset(header, (ctypes.c_uint32 * 6)()))


def _words(arguments: tuple[int | None, ...]) -> list[ctypes.c_ulong]:
    return [ctypes.c_ulong(each or 0) for each in arguments]


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
