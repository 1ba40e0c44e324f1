"""What is fetched, from whom, and what becomes of everything else; the web is one host on loopback."""

import gzip
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
import trustme
from httpcore import AnyIOBackend, AsyncNetworkStream

from bt_model.errors import InvalidValueError
from server.fetching.fetcher import Fetcher
from server.problems import Problem
from server.settings import Settings
from tests.web_host import Answer, WebHost, redirect, response, web_host

PUBLIC, PRIVATE = "93.184.216.34", "10.0.0.1"
TENANT = "mine"
CLIP = bytes(range(256)) * 1024
CAP = len(CLIP)
URL = "https://films.example/clip.mp4?token=hush"


class Wires(AnyIOBackend):
    """Leads every connection to the host on loopback, and remembers where it was to lead."""

    def __init__(self, port: int) -> None:
        self.dialled: list[tuple[str, int]] = []
        self._port = port

    async def connect_tcp(self, host: str, port: int, *args: Any, **more: Any) -> AsyncNetworkStream:
        self.dialled.append((host, port))
        return await super().connect_tcp("127.0.0.1", self._port, *args, **more)


class Names:
    """A resolver: for each name its answers, one after the other, the last again and again."""

    def __init__(self, **answers: Sequence[Sequence[str]]) -> None:
        self.asked: list[str] = []
        self._answers = answers

    async def __call__(self, host: str, tenant: str) -> Sequence[str]:
        assert tenant == TENANT
        self.asked.append(host)
        answers = self._answers.get(host.partition(".")[0], [[PUBLIC]])
        return answers[min(self.asked.count(host), len(answers)) - 1]


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def ca_file(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("authority") / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return path


@pytest.fixture
def host(authority: trustme.CA) -> Iterator[WebHost]:
    with web_host(authority, ["films.example", "other.example", "third.example"]) as host:
        yield host


class Web:
    """A host, what it sends, and a fetcher that is led to it."""

    def __init__(self, host: WebHost, ca_file: Path | None) -> None:
        self.host, self.wires, self.names = host, Wires(host.port), Names()
        self.settings = {"fetch_urls": True, "fetch_ca_file": ca_file, "max_upload_bytes": CAP}

    def sends(self, *answers: Callable[[], Answer] | Answer) -> None:
        """In turn."""
        self.host.will_send(*(each if callable(each) else (lambda each=each: each) for each in answers))

    async def fetch(self, url: str = URL, *, is_isolated: bool = True, **settings: object) -> bytes:
        chosen = Settings.model_validate(self.settings | settings)
        fetcher = Fetcher(chosen, lambda: is_isolated, self.names, self.wires)
        async with aclosing(fetcher.content(url, "url", TENANT)) as chunks:
            return b"".join([chunk async for chunk in chunks])

    async def refused(self, url: str = URL, code: str = "url_not_fetched", **more: Any) -> str:
        """The message of the error with this code."""
        with pytest.raises(InvalidValueError) as caught:
            await self.fetch(url, **more)
        assert (caught.value.code, caught.value.param) == (code, "url")
        return caught.value.message


@pytest.fixture
def web(host: WebHost, ca_file: Path) -> Web:
    web = Web(host, ca_file)
    web.sends(response(CLIP))
    return web


def chunked(body: Iterable[bytes]) -> Iterator[bytes]:
    yield b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    for chunk in body:
        yield b"%x\r\n%s\r\n" % (len(chunk), chunk)
    yield b"0\r\n\r\n"


async def test_a_file_is_fetched_with_a_request_that_tells_nothing(
    web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTPS_PROXY", "ALL_PROXY", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert await web.fetch() == CLIP
    assert web.wires.dialled == [(PUBLIC, 443)]
    assert web.host.heads == [
        "GET /clip.mp4?token=hush HTTP/1.1\r\nHost: films.example\r\nUser-Agent: btchat\r\n"
        "Accept: */*\r\nAccept-Encoding: identity\r\nConnection: close\r\n\r\n"
    ]


async def test_a_body_may_declare_no_length(web: Web) -> None:
    web.sends(lambda: chunked([CLIP]))
    assert await web.fetch() == CLIP
    web.sends([b"HTTP/1.1 200 OK\r\nContent-Encoding: identity\r\n\r\n", CLIP])
    assert await web.fetch() == CLIP


@pytest.mark.parametrize("addresses", [[], [PRIVATE], [PUBLIC, PRIVATE], ["2606:4700::1", "::1"]])
async def test_a_name_is_dialled_only_if_all_its_addresses_are_public(web: Web, addresses: list[str]) -> None:
    web.names = Names(films=[addresses])
    await web.refused()
    assert web.wires.dialled == []


async def test_the_address_that_was_looked_at_is_the_one_that_is_dialled(web: Web) -> None:
    web.names = Names(films=[["2606:4700::1", PUBLIC], [PRIVATE]])
    assert await web.fetch() == CLIP
    assert (web.names.asked, web.wires.dialled) == (["films.example"], [("2606:4700::1", 443)])


async def test_a_redirect_is_looked_at_like_the_first_url(web: Web) -> None:
    web.names = Names(films=[[PUBLIC], [PRIVATE]])
    web.sends(redirect("/b"))
    await web.refused()
    assert (web.names.asked, web.wires.dialled) == (["films.example"] * 2, [(PUBLIC, 443)])


async def test_three_redirects_are_followed_without_cookies(web: Web) -> None:
    web.names = Names(other=[["8.8.8.8"]])
    hops = ("//other.example/1", "2", "https://third.example/3?q")
    web.sends(*map(redirect, hops), response(CLIP))
    assert await web.fetch() == CLIP
    assert [address for address, _ in web.wires.dialled] == [PUBLIC, "8.8.8.8", "8.8.8.8", PUBLIC]
    assert [head.split(" ")[1] for head in web.host.heads[1:]] == ["/1", "/2", "/3?q"]
    assert not any("cookie" in head.lower() or "referer" in head.lower() for head in web.host.heads)


async def test_a_fourth_is_not(web: Web) -> None:
    web.sends(redirect(URL))
    await web.refused()
    assert len(web.wires.dialled) == 4


@pytest.mark.parametrize(
    "location",
    ["http://films.example/b", "https://127.0.0.1/", "https://a@films.example/", "//films:80/", "/é"],
)
async def test_a_redirect_to_no_url_is_not_followed(web: Web, location: str) -> None:
    web.sends(redirect(location))
    await web.refused()
    assert len(web.wires.dialled) == 1


WRONG: dict[str, Callable[[], Answer]] = {
    "status": lambda: response(CLIP, status="404 Not Found"),
    "part": lambda: response(CLIP, status="206 Partial Content"),
    "coding": lambda: response(gzip.compress(CLIP), "Content-Encoding: gzip"),
    "cut": lambda: response(CLIP[:-1], length=len(CLIP)),
    "no HTTP": lambda: [b"SSH-2.0-OpenSSH_9.2\r\n"],
    "nothing": list,
    "two lengths": lambda: response(CLIP, "Content-Length: 3"),
    "headers without end": lambda: [b"HTTP/1.1 200 OK\r\n", b"a: b\r\n" * 100_000],
    "many first answers": lambda: [b"HTTP/1.1 103 Early Hints\r\n\r\n" * 100],
}


@pytest.mark.parametrize("name", WRONG)
async def test_what_is_no_whole_file_is_not_fetched(web: Web, name: str) -> None:
    web.sends(WRONG[name])
    await web.refused()


async def test_a_certificate_must_be_of_the_name_and_of_an_authority(web: Web) -> None:
    await web.refused("https://films.elsewhere.org/clip.mp4?token=hush")
    await web.refused(fetch_ca_file=None)
    assert (len(web.wires.dialled), web.host.heads) == (2, [])


def slow(pause: float) -> Iterator[bytes]:
    yield b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n"
    for _ in range(100):
        yield b"a"
        time.sleep(pause)


async def test_a_fetch_ends_in_time_however_its_bytes_trickle(web: Web) -> None:
    web.sends(lambda: slow(0.02))
    begin = time.monotonic()
    assert "within 0.2 seconds" in await web.refused(fetch_seconds=0.2)
    assert time.monotonic() - begin < 1


@pytest.mark.parametrize("is_declared", [True, False])
async def test_a_file_may_be_as_large_as_an_upload(web: Web, is_declared: bool) -> None:
    web.sends(response(CLIP + b"a") if is_declared else lambda: chunked([CLIP, b"a"]))
    with pytest.raises(Problem) as caught:
        await web.fetch()
    assert (caught.value.status_code, caught.value.code) == (413, "body_too_large")


async def test_nothing_is_read_long_after_the_cap(web: Web) -> None:
    web.sends(lambda: chunked(CLIP[: CAP // 16] for _ in range(1000) if not time.sleep(0.002)))
    with pytest.raises(Problem):
        await web.fetch()
    assert web.host.num_sent < CAP + 64 * 1024


async def test_nothing_is_fetched_unless_it_is_switched_on(web: Web) -> None:
    text = await web.refused(code="url_fetching_disabled", fetch_urls=False)
    assert "not enabled here" in text
    assert web.names.asked == []


async def test_nothing_is_fetched_for_a_reduced_sandbox(web: Web) -> None:
    text = await web.refused(code="url_fetching_disabled", is_isolated=False)
    assert "reduced sandbox" in text
    assert web.names.asked == []


async def test_only_named_hosts_are_fetched_from(web: Web) -> None:
    hosts = ["Films.example", "*.b.example"]
    assert await web.fetch(fetch_hosts=hosts) == CLIP
    for other in ("other.example", "b.example", "a.films.example", "ab.example"):
        text = await web.refused(f"https://{other}/", code="invalid_value", fetch_hosts=hosts)
        assert f"{other!r}; allowed: Films.example, *.b.example" in text
    web.sends(redirect("https://other.example/"))
    await web.refused(fetch_hosts=hosts)
    assert web.names.asked == ["films.example"] * 2


async def test_a_client_cannot_tell_why_nothing_was_fetched_and_the_log_has_no_secrets(
    web: Web, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.DEBUG, "server.fetching.fetcher")  # whatever a server in another test has set
    web.names = Names(films=[[PRIVATE], [PUBLIC]])
    web.sends(response(status="403 Forbidden"))
    assert await web.refused() == await web.refused() == await web.refused(fetch_ca_file=None)
    text = await web.refused("https://user:pass@films.example/hush", code="invalid_value")
    assert not any(secret in text + caplog.text for secret in ("hush", "pass@"))
    ours = [record.getMessage() for record in caplog.records if record.name.startswith("server")]
    assert "its addresses are 10.0.0.1" in ours[0]
    assert "status 403" in ours[1]


@pytest.mark.parametrize("content", [None, b"no certificate"])
def test_certificates_that_cannot_be_read_are_refused_at_the_start(
    tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_bytes(content)
    settings = Settings(fetch_urls=True, fetch_ca_file=path)
    with pytest.raises(InvalidValueError, match=r"^cannot read certificates from ") as caught:
        Fetcher(settings, lambda: True, Names())
    assert caught.value.param == "fetch_ca_file"
