"""URLs that clients send, with a network of our own around the server.

In a namespace in which every address of the world is this machine: a host of the web at port 443 of all of
them, a server of names that says what it is told, and one who looks at every packet.
"""

import asyncio
import json
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from http import HTTPStatus
from itertools import cycle
from pathlib import Path
from shutil import which

import httpx
import trustme
import uvloop

from server.settings import Settings
from tests import fakes
from tests.clips import write_clip
from tests.reliability.goal import Figure, Goal, NotHereError
from tests.server.conftest import QUICK, RunningServer, running
from tests.server.fetching.test_addresses import PUBLIC, REFUSED
from tests.server.fetching.test_target import HOSTS, OTHERS
from tests.web_host import Answer, WebHost, redirect, response, web_host

_NAMESPACE = """
ip link set lo up && ip route add local 0.0.0.0/0 dev lo && ip -6 route add local ::/0 dev lo &&
mount --bind "$0" /etc/resolv.conf && exec "$@"
"""
_HOST, _OTHER = PUBLIC.split()[:2]
_HOST_V6 = PUBLIC.split()[-1]
_REFUSED = [address for kind in REFUSED.values() for address in kind.split() if "%" not in address]
_INNER = ("10.0.0.1", 443)
_SECRET = "hush-5e1f"
_CAP, _SLACK, _PIECE = 256 * 1024, 64 * 1024, 8 * 1024
_IDLE_SECONDS, _KEPT_SECONDS = 10, 2
_DNS = 53
_FAMILIES = {1: socket.AF_INET, 28: socket.AF_INET6}  # of the questions A and AAAA
_FOUND, _UNKNOWN = 0x8180, 0x8183
_PACKET_STATISTICS = (263, 6)  # of SOL_PACKET
_SYN, _ACK = 0x02, 0x10


def fetching(is_full: bool) -> Figure:
    """Bad URLs cost no packet to where they lead, good ones are fetched, and large files are cut."""
    with tempfile.NamedTemporaryFile("w", suffix=".conf") as resolver:
        resolver.write("nameserver 127.0.0.1\n")
        resolver.flush()
        command = ["unshare", "-rnm", "sh", "-c", _NAMESPACE, resolver.name]
        if not which("ip") or subprocess.run([*command, "true"], capture_output=True, check=False).returncode:
            raise NotHereError("this machine gives its users no network namespaces, or lacks `ip`")
        command += [sys.executable, "-m", "tests.reliability.fetching", "full" if is_full else "quick"]
        result = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert result.returncode == 0, result.stderr[-2000:]
    figure = Figure(**json.loads(result.stdout))
    num_told = result.stderr.count(_SECRET)
    return Figure(f"{figure.text}; secrets in the log: {num_told}", is_met=figure.is_met and not num_told)


GOALS = (
    Goal(
        "G6",
        "200 bad URLs, 50 of them rebound: 0 packets to where they lead; 20 good work; cut at cap + 64 KiB",
        fetching,
    ),
)


@dataclass(frozen=True, slots=True)
class Case:
    """A URL, where its name is whenever that is asked, and where its host leads to."""

    url: str
    addresses: Sequence[Sequence[str]] = ((_HOST,),)
    redirects: Sequence[str] = ()

    @property
    def host(self) -> str:
        return self.url.lower().partition("://")[2].replace("?", "/").partition("/")[0].removesuffix(":443")


def _good() -> Iterator[Case]:
    forms = (
        "https://{}/clip", "HTTPS://{}/clip", "https://{}:443/clip", "https://{}/clip#t=3", "https://{}?clip",
        f"https://{{}}/clip?sig={_SECRET}%2Fb&x=https://c@d/", "https://{}/a/./../clip", "https://{}//clip",
        "https://xn--bcher-kva.{}/c", "https://{}/%63lip;v=1", "https://a.b.c.d.{}/" + "c" * 2000,
    )  # fmt: skip
    yield from (Case(form.format(f"good{number}.web.test")) for number, form in enumerate(forms))
    yield Case("https://upper.WEB.test/c")
    yield Case("https://six.web.test/c", [[_HOST_V6]])
    yield Case("https://both.web.test/c", [[_HOST, _HOST_V6]])
    yield Case("https://many.web.test/c", [[_HOST, _OTHER]])
    yield Case("https://relative.web.test/a/b", redirects=["c", "/d"])
    yield Case(
        "https://thrice.web.test/a", redirects=["b", "https://six.web.test:443/e", "//both.web.test/f"]
    )
    yield Case("https://query.web.test/a?1", redirects=["/a?2", "?3"])
    yield Case("https://moves.web.test/c", [[_HOST], [_OTHER]], ["/c2"])
    yield Case("https://six.web.test/c", [[_HOST_V6], [_HOST]], ["https://many.web.test/"])


def _bad() -> Iterator[Case]:
    for number, address in enumerate(_REFUSED):
        yield Case(f"https://alone{number}.web.test/c", [[address]])
    for number, address in enumerate(_REFUSED[::4]):
        yield Case(f"https://among{number}.web.test/c", [[_HOST, address]])
    yield from (Case(f"https://{host}/c") for host in HOSTS)
    yield from (Case(url) for url in OTHERS)
    yield Case(f"https://user:{_SECRET}@web.test/")
    wheres = (
        "http://web.test/", "https://10.0.0.1/", "https://[::1]/", "//127.1/", "https://a@web.test/",
        "https://web.test:80/", "file:///etc/passwd", "https:\\\\127.0.0.1\\", "https://0x7f000001/",
        f"gopher://127.0.0.1:6379/{_SECRET}",
    )  # fmt: skip
    for number, where in enumerate(wheres):
        yield Case(f"https://leads{number}.web.test/a?{_SECRET}", redirects=[where])
        yield Case(f"https://leads{number}.web.test/b", redirects=["/c", where])
        yield Case(f"https://near{number}.web.test/a", redirects=[f"https://alone{number}.web.test/c"])
    yield Case("https://far.web.test/a", redirects=[f"/{hop}" for hop in range(4)])


def _rebound(count: int) -> list[Case]:
    """Names that are elsewhere when they are asked for again: by who dials, or because of a redirect."""
    inner = [_REFUSED[7 * number % len(_REFUSED)] for number in range(count)]
    return [
        Case(f"https://rebound{number}.web.test/a", [[_HOST], [address]], ["/b"] if number % 2 else [])
        for number, address in enumerate(inner)
    ]


@dataclass(slots=True)
class Names:
    """A server of names on 127.0.0.1: for each name its answers in turn, the last again and again."""

    answers: dict[str, Sequence[Sequence[str]]] = field(default_factory=dict[str, Sequence[Sequence[str]]])
    asked: Counter[tuple[str, int]] = field(default_factory=Counter[tuple[str, int]])

    def serve(self, sock: socket.socket) -> None:
        while True:
            query, client = sock.recvfrom(1024)
            sock.sendto(self._answer(query), client)

    def _answer(self, query: bytes) -> bytes:
        labels, at = list[str](), 12
        while size := query[at]:
            labels.append(query[at + 1 : at + 1 + size].decode().lower())
            at += 1 + size
        name, kind = ".".join(labels), int.from_bytes(query[at + 1 : at + 3], "big")
        answers = self.answers.get(name, [[]])
        chosen = answers[min(self.asked[name, kind], len(answers) - 1)]
        self.asked[name, kind] += 1
        family = _FAMILIES[kind]
        packed = [socket.inet_pton(family, each) for each in chosen if (":" in each) == (kind != 1)]
        records = [struct.pack("!HHHIH", 0xC00C, kind, 1, 0, len(each)) + each for each in packed]
        flags = _FOUND if name in self.answers else _UNKNOWN
        counts = struct.pack("!HHHHH", flags, 1, len(records), 0, 0)
        return query[:2] + counts + query[12 : at + 5] + b"".join(records)


class Wire:
    """Every packet of this namespace: to whom connections are begun, and what else is sent to whom."""

    def __init__(self) -> None:
        self.dialled: set[tuple[str, int]] = set()
        self._sock = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(3))
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 24)
        threading.Thread(target=self._look, daemon=True).start()

    def num_missed(self) -> int:
        return struct.unpack("II", self._sock.getsockopt(*_PACKET_STATISTICS, 8))[1]

    def _look(self) -> None:
        while True:
            packet = self._sock.recv(128)
            if packet[0] >> 4 == 4:
                kind, to = packet[9], socket.inet_ntop(socket.AF_INET, packet[16:20])
                rest = packet[4 * (packet[0] & 15) :]
            else:
                kind, to, rest = packet[6], socket.inet_ntop(socket.AF_INET6, packet[24:40]), packet[40:]
            source, port = struct.unpack("!HH", rest[:4])
            is_begin = kind == socket.IPPROTO_TCP and rest[13] & (_SYN | _ACK) == _SYN
            if is_begin or (kind == socket.IPPROTO_UDP and _DNS not in {source, port}):
                self.dialled.add((to, port))


def _upload(url: str) -> tuple[str, object]:
    return "/v1/video/uploads", {"url": url}


def _question(url: str) -> tuple[str, object]:
    parts = [{"type": "video_url", "video_url": {"url": url}}, {"type": "text", "text": "what happens"}]
    return "/v1/chat/completions", {"model": fakes.MODEL, "messages": [{"role": "user", "content": parts}]}


class World:
    """The network, and a server in it."""

    def __init__(self, server: RunningServer, host: WebHost, names: Names, clip: bytes) -> None:
        self.server, self.host = server, host
        self._names, self._clip = names, response(clip)
        self._client = server.client()
        self._ways = cycle((_upload, _question))

    def status(self, case: Case, *answers: Callable[[], Answer], timeout: float = 20) -> int:
        """What becomes of a URL, in an upload or a question, by turns; its redirects lead to the clip."""
        self._names.answers[case.host] = case.addresses
        hops = [lambda where=where: redirect(where) for where in case.redirects]
        self.host.will_send(*(answers or [*hops, lambda: self._clip]))
        route, body = next(self._ways)(case.url)
        return self._client.post(route, json=body, timeout=timeout).status_code

    def seconds_kept_after_leaving(self, case: Case) -> float:
        """How long half a file stays once its client has left."""
        incoming = self.server.services.settings.data_dir / "incoming"
        with suppress(httpx.ReadTimeout):
            self.status(case, _stalling, timeout=0.5)
        begin = time.monotonic()
        while any(incoming.iterdir()):
            time.sleep(0.01)
        return time.monotonic() - begin

    def seconds_of_silence(self, case: Case) -> float:
        """How long a host may say nothing."""
        begin = time.monotonic()
        self.status(case, _stalling)
        return time.monotonic() - begin


@contextmanager
def _world(folder: Path, hosts: Iterable[str]) -> Generator[World]:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    values = {
        "data_dir": folder / "data",
        "fetch_urls": True,
        "fetch_ca_file": folder / "ca.pem",
        "max_upload_bytes": _CAP,
        "log_level": "debug",
    }
    wildcards = {f"*.{host.partition('.')[2]}" for host in hosts}
    names = Names()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", _DNS))
        threading.Thread(target=names.serve, args=(sock,), daemon=True).start()
        with (
            web_host(authority, wildcards, ("::", 443)) as host,
            running(Settings.model_validate(QUICK | values)) as server,
        ):
            yield World(server, host, names, write_clip(folder / "clip.mp4").read_bytes())


def _stalling() -> Iterator[bytes]:
    yield next(_paced())
    time.sleep(60)


def _paced() -> Iterator[bytes]:
    """Far more than the cap; what is beyond it so slowly that nothing waits between the two sides."""
    yield b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + b"\0\0\0\x14ftypisom\0\0\2\0isom"
    for number in range(4 * _CAP // _PIECE):
        time.sleep(0.05 if number > _CAP // _PIECE else 0)
        yield bytes(_PIECE)


def _measured(is_full: bool) -> Figure:
    """The figures, inside the namespace."""
    good, bad = list(_good()), list(_bad())
    rebound = _rebound(50 if is_full else 4)
    if not is_full:
        good, bad = good[::5], bad[::15]
    wire = Wire()
    hosts = [case.host for case in (*_good(), *rebound)]
    with tempfile.TemporaryDirectory() as name, _world(Path(name), hosts) as world:
        works = sum(world.status(case) == HTTPStatus.OK for case in good)
        refused = sum(world.status(case) == HTTPStatus.BAD_REQUEST for case in bad)
        for case in rebound:
            world.status(case)
        is_cut = world.status(good[0], _paced) == HTTPStatus.REQUEST_ENTITY_TOO_LARGE
        beyond = world.host.num_sent - _CAP
        kept = max(world.seconds_kept_after_leaving(good[0]) for _ in range(2))
        idle = world.seconds_of_silence(good[0]) if is_full else 0.0
        known = {("127.0.0.1", httpx.URL(world.server.url).port), *((each, 443) for each in PUBLIC.split())}
        strangers = wire.dialled - known
        with socket.create_connection(_INNER):  # a packet to a stranger is seen
            time.sleep(0.1)
    text = (
        f"{refused} of {len(bad)} bad, {len(rebound)} rebound: connections to {len(strangers)} others; "
        f"{works} of {len(good)} good work; cut {beyond / 1024:.0f} KiB after the cap; "
        f"half a file gone {kept:.2f} s after its client"
        f"{f'; silence ended after {idle:.1f} s' if is_full else ''}"
    )
    is_met = (works, refused, strangers) == (len(good), len(bad), set())
    is_met = is_met and is_cut and beyond <= _SLACK and _INNER in wire.dialled and not wire.num_missed()
    is_met = is_met and kept <= _KEPT_SECONDS
    return Figure(text, is_met=is_met and idle <= _IDLE_SECONDS + 1)


if __name__ == "__main__":
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())  # pyright: ignore[reportDeprecated] - what serves
    sys.stdout.write(json.dumps(asdict(_measured(sys.argv[1] == "full"))))
