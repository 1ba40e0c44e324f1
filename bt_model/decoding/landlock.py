"""Landlock: a process gives up opening files, TCP, and abstract sockets and signals to others, for good.

Numbers are those of linux/landlock.h. What the kernel does not know yet is left out, by its ABI version.
"""

import ctypes

from bt_model.decoding.kernel import syscall

_CREATE_RULESET, _RESTRICT_SELF = 444, 446  # on every architecture
_ASK_VERSION = 1
_FILE_RIGHTS = ((5, 16), (3, 15), (2, 14), (1, 13))  # from this version on so many, the lowest bits
_TCP_SINCE, _SCOPES_SINCE = 4, 6
_BIND_AND_CONNECT = _SOCKETS_AND_SIGNALS = 0b11


class _Ruleset(ctypes.Structure):
    """What is governed. Everything governed is denied, since no rule allows any of it."""

    _fields_ = (("files", ctypes.c_uint64), ("tcp", ctypes.c_uint64), ("scopes", ctypes.c_uint64))


def deny_files() -> str:
    """Deny all that this kernel's Landlock can; needs no-new-privileges. Returns its version for a report.

    Raises:
        OSError: the kernel has no Landlock, or it is switched off.
    """
    version = syscall(_CREATE_RULESET, None, 0, _ASK_VERSION)
    num_rights = next(count for since, count in _FILE_RIGHTS if version >= since)
    ruleset = _Ruleset(
        files=(1 << num_rights) - 1,
        tcp=_BIND_AND_CONNECT if version >= _TCP_SINCE else 0,
        scopes=_SOCKETS_AND_SIGNALS if version >= _SCOPES_SINCE else 0,
    )
    # an older kernel accepts the longer structure, because what it does not know is zero
    fd = syscall(_CREATE_RULESET, ctypes.addressof(ruleset), ctypes.sizeof(ruleset), 0)
    syscall(_RESTRICT_SELF, fd, 0)  # the descriptor is left to its end: it gives no right back
    return str(version)
