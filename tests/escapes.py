"""What a decoder that was taken over would try first: attempts to get out of a decode child.

Each attempt returns if it succeeded and raises if it was held. All that they need is imported before.
"""

import ctypes
import errno
import fcntl
import mmap
import os
import resource
import signal
import socket
import subprocess
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_LIBC = ctypes.CDLL(None, use_errno=True)
_PTRACE, _MOUNT = {"x86_64": 101, "aarch64": 117}, {"x86_64": 165, "aarch64": 40}
_SEIZE, _NEWUSER = 0x4206, 0x10000000
_MACHINE = os.uname().machine


@dataclass(frozen=True, slots=True)
class Target:
    """What is outside: a folder of files, a port that listens, the parent, and an idle process."""

    folder: Path
    port: int
    parent: int
    bystander: int

    @property
    def words(self) -> bytes:
        return f"{self.folder}\n{self.port}\n{self.parent}\n{self.bystander}".encode()

    @classmethod
    def read(cls, words: bytes) -> "Target":
        folder, *numbers = words.decode().splitlines()
        return cls(Path(folder), *map(int, numbers))


@contextmanager
def target(folder: Path) -> Generator[Target]:
    """One that exists, for the time of the `with`."""
    for name in ("keys.txt", "other.mp4", "btchat.sqlite3", "program", "a", "c", "d", "e"):
        (folder / name).write_bytes(b"canary")
    (folder / "program").chmod(0o755)
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.socket(socket.AF_UNIX) as local,
        subprocess.Popen(["sleep", "600"]) as bystander,
    ):
        local.bind(str(folder / "socket"))
        local.listen()
        try:
            yield Target(folder, server.getsockname()[1], os.getpid(), bystander.pid)
        finally:
            bystander.kill()


def attempts(target: Target) -> Mapping[str, Callable[[], object]]:
    """By name; none of them does harm where it succeeds, but to what lies in the folder."""
    secret = target.folder / "keys.txt"
    return {
        "read /etc/passwd": lambda: _read("/etc/passwd"),
        "read the keys": lambda: _read(secret),
        "read another video": lambda: _read(target.folder / "other.mp4"),
        "read the catalogue": lambda: _read(target.folder / "btchat.sqlite3"),
        "read the parent's environment": lambda: _read(f"/proc/{target.parent}/environ"),
        "open the parent's memory to read": lambda: os.open(f"/proc/{target.parent}/mem", os.O_RDONLY),
        "open the parent's memory to write": lambda: os.open(f"/proc/{target.parent}/mem", os.O_RDWR),
        "list a folder": lambda: [*target.folder.iterdir()],
        "see that a file exists": secret.stat,
        "connect to the server": lambda: socket.socket().connect(("127.0.0.1", target.port)),
        "listen": lambda: socket.create_server(("127.0.0.1", 0)),
        "send a datagram": lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(
            b"", ("127.0.0.1", target.port)
        ),
        "connect to a socket in a folder": lambda: socket.socket(socket.AF_UNIX).connect(
            str(target.folder / "socket")
        ),
        "open a raw socket": lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP),
        "fork": _fork,
        "run a program": lambda: _run(target.folder / "program"),
        "create a file": lambda: os.open(target.folder / "new", os.O_CREAT | os.O_WRONLY),
        "rename a file": lambda: (target.folder / "a").rename(target.folder / "b"),
        "delete a file": (target.folder / "c").unlink,
        "truncate a file": lambda: os.truncate(target.folder / "d", 0),
        "trace a process": lambda: _call(_PTRACE, _SEIZE, target.bystander, 0, 0),
        "map code that it wrote": lambda: mmap.mmap(-1, 4096, prot=7),
        "mount": lambda: _call(_MOUNT, b"none", str(target.folder).encode(), b"tmpfs", 0, 0),
        "leave its namespaces": lambda: _check(_LIBC.unshare(_NEWUSER)),
        "write a file": lambda: _write(os.open(target.folder / "e", os.O_WRONLY)),
        "write a memory file": lambda: _write(os.memfd_create("x")),
        "write shared memory": lambda: _write(os.open("/dev/shm/btchat-escape", os.O_CREAT | os.O_RDWR)),
        "signal the parent": lambda: os.kill(target.parent, 0),
        "have the kernel signal the parent": lambda: fcntl.fcntl(0, fcntl.F_SETOWN, target.parent),
        "change another's limits": lambda: resource.prlimit(
            target.bystander, resource.RLIMIT_NOFILE, (99, 99)
        ),
        "raise its own limits": lambda: resource.setrlimit(resource.RLIMIT_AS, (-1, -1)),
    }


def successes(target: Target) -> list[str]:
    """The names of the attempts that succeed, tried one after the other in this process."""
    free: list[str] = []
    for name, attempt in attempts(target).items():
        try:
            attempt()
        except (OSError, ValueError, OverflowError):  # of each that is held; anything else is a mistake here
            continue
        free.append(name)
    return free


def _read(path: str | Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    os.read(fd, 1)


def _write(fd: int) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    os.write(fd, b"x")


def _fork() -> None:
    if not os.fork():
        os._exit(0)


def _call(numbers: Mapping[str, int], *arguments: int | bytes) -> None:
    words = [ctypes.c_long(each) if isinstance(each, int) else each for each in arguments]
    _check(_LIBC.syscall(ctypes.c_long(numbers[_MACHINE]), *words))


def _run(program: Path) -> None:
    """One that is none, so that this process goes on also where it may be run."""
    try:
        os.execv(program, ["program"])
    except OSError as error:
        if error.errno != errno.ENOEXEC:
            raise


def _check(result: int) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
