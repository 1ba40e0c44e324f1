"""What is a URL that is fetched, and what a redirect leads to."""

import pytest

from server.fetching.target import Target

GOOD = {
    "https://example.com": ("example.com", "/", ""),
    "HTTPS://Example.COM:443/A%20b;c?d=e/f?g#h": ("example.com", "/A%20b;c", "?d=e/f?g"),
    "https://example.com?x=https://user@other": ("example.com", "/", "?x=https://user@other"),
    "https://a_b.xn--bcher-kva.example/@/%2e%2e//": ("a_b.xn--bcher-kva.example", "/@/%2e%2e//", ""),
    f"https://example.com/{'x' * 4076}": ("example.com", "/" + "x" * 4076, ""),
}
HOSTS = (
    "localhost", "127.0.0.1", "2130706433", "0x7f000001", "0x7f.1", "0x7f.0.0.0x1", "017700000001", "127.1",
    "0177.0.0.1", "127.0.0.1.", "1.2.3", "[::1]", "[::ffff:127.0.0.1]", "::1", "93.184.216.34", "a.1a", "a.c",
    "example.com.", ".com", "example..com", "-a.com", "a-.com", "a.b-", "exa%6dple.com", "ex ample.com",
    "ex\u00e4mple.com", "example\u3002com", "\u2460\u2461\u2466.\u24ea.\u24ea.\u2460", "\uff45xample.com",
    "e\u017fample.com", "example.com\u200b", "a\x00b.com", "a\tb.com", "user@example.com",
    "user:pass@example.com", "good.com\\@example.com", "example.com\\.good.com", f"{'a' * 64}.com",
    f"{'a.' * 127}com",
)  # fmt: skip
OTHERS = (
    "", "example.com", "//example.com/", "https:example.com", "https:/example.com/", "https:///example.com/",
    "https:\\\\example.com/", "https://", "http://example.com/", "ftp://example.com/", "file:///etc/passwd",
    "gopher://example.com/", " https://example.com/", "https://example.com/ ", "https://example.com/a b",
    "https://example.com/a\\b", "https://example.com/\r\nHost: a", "https://example.com/\n", "https://example.com/ü",
    "https://example.com:80/", "https://example.com:8443/", "https://example.com:/", "https://example.com:0443/",
    "https://example.com:443:443/", "https://example.com?a\x00", "https://example.com#\x7f",
    f"https://example.com/{'x' * 4077}", "view-source:https://example.com/", "url:https://example.com/",
)  # fmt: skip


@pytest.mark.parametrize("url", GOOD)
def test_a_url_names_a_host_and_what_it_is_asked_for(url: str) -> None:
    assert Target.read(url) == Target(*GOOD[url])


def test_a_host_is_a_name_in_ascii() -> None:
    assert [host for host in HOSTS if Target.read(f"https://{host}/clip.mp4")] == []


def test_all_else_is_no_url() -> None:
    assert [url for url in OTHERS if Target.read(url)] == []


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ("https://other.org/b", Target("other.org", "/b", "")),
        ("//other.org/b?c", Target("other.org", "/b", "?c")),
        ("/b", Target("example.com", "/b", "")),
        ("b?c", Target("example.com", "/a/b", "?c")),
        ("", Target("example.com", "/a/", "")),
        ("http://other.org/b", None),
        ("file:/b", None),
        ("//user@other.org/", None),
        ("\\\\other.org/", None),
        ("/\r\nb", None),
    ],
)
def test_a_redirect_is_read_like_the_first(location: str, expected: Target | None) -> None:
    assert Target("example.com", "/a/clip.mp4", "?q").follow(location) == expected
