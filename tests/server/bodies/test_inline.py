"""Videos taken out of a JSON body as it comes, compared with the body read whole."""

import asyncio
import base64
import hashlib
import json
import random
import re
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bt_model.errors import InvalidValueError
from bt_model.video.refusals import unsupported_container
from server.bodies.inline import FIELDS, MAX_DATA_URLS, InlineJson
from server.bodies.media import MediaBody
from server.bodies.openai import FileBody, PartBody
from server.problems import Problem

ELEMENT = "[]"  # of a list
SEARCHED = (*FIELDS, ELEMENT)
LABEL = re.compile(r"data:(?P<type>[^;,]*)(?:;.{0,256}?)?;\s*base64,", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Kept:
    content: bytes
    sha256: str


async def keep(content: AsyncGenerator[bytes]) -> Kept:
    whole = b"".join([chunk async for chunk in content])
    return Kept(whole, hashlib.sha256(whole).hexdigest())


async def read(chunks: Sequence[bytes], max_bytes: int = 1 << 20) -> Any:
    """The JSON, each video in place of its URL, an error as None."""

    async def come() -> AsyncGenerator[bytes]:
        for chunk in chunks:
            yield chunk

    body = InlineJson(come(), keep, max_bytes)
    tree = json.loads(await body.read())
    return mapped(tree, lambda key, text: body.videos.get(text, text) if key in SEARCHED else text)


def whole(body: bytes) -> Any:
    """What `read` gives, by its slow definition."""

    def replaced(key: str, text: str) -> object:
        if key not in SEARCHED or text[:5].lower() != "data:":
            return text
        label = LABEL.match(text)
        if not label:
            return text[:512]
        data = "".join(unquote(text[label.end() :]).split())
        try:
            content = base64.b64decode(data + "=" * (-len(data) % 4), validate=True)
        except ValueError:
            return None
        return Kept(content, hashlib.sha256(content).hexdigest())

    return mapped(json.loads(body), replaced)


def mapped(tree: Any, function: Any, key: str = "") -> Any:
    if isinstance(tree, dict):
        return {name: mapped(each, function, name) for name, each in tree.items()}
    if isinstance(tree, list):
        return [mapped(each, function, ELEMENT) for each in tree]
    if not isinstance(tree, str):
        return tree
    found = function(key, tree)
    return None if isinstance(found, Exception) else found


def spelled(tree: Any, draw: random.Random) -> str:
    """JSON in one of the ways in which it can be written."""

    odds = draw.choice([0, 0, 0.1, 1])
    is_ascii = draw.random() < 0.5

    def letter(each: str) -> str:
        if each < "\x7f" and draw.random() < odds:
            return draw.choice([f"\\u{ord(each):04x}", f"\\u{ord(each):04X}"]) if each != "/" else "\\/"
        return (
            json.dumps(each, ensure_ascii=is_ascii)[1:-1]
            if each < " " or each > "~" or each in '"\\'
            else each
        )

    def string(text: str) -> str:
        return '"' + "".join(map(letter, text)) + '"'

    def space() -> str:
        return draw.choice(["", "", " ", "\n\t"])

    if isinstance(tree, dict):
        fields = [f"{space()}{string(key)}{space()}:{space()}{spelled(v, draw)}" for key, v in tree.items()]
        again = [field for field in fields if draw.random() < 0.1]  # the last one of a name counts
        return "{" + ",".join(again + fields) + space() + "}"
    if isinstance(tree, list):
        return "[" + ",".join(space() + spelled(each, draw) for each in tree) + "]"
    return string(tree) if isinstance(tree, str) else json.dumps(tree)


@st.composite
def data_urls(draw: st.DrawFn) -> str:
    label = draw(
        st.sampled_from(["data:video/mp4", "DATA:;codecs=vp8,opus", "data:application/mp4", "data:image/png"])
    )
    data = base64.b64encode(draw(st.binary(max_size=40)) * draw(st.integers(0, 200))).decode()
    place = draw(st.integers(0, len(data)))
    foreign = draw(st.sampled_from(["", "", "", "\n", " ", "%0a", "\\", '"', "%", "#", "=", "é", "😀"]))
    data = data[:place] + foreign + data[place:]
    if draw(st.booleans()):
        data = data.rstrip("=").replace("+", "%2B")
    return f"{label};base64,{data}"


TEXTS = st.one_of(
    data_urls(), st.text(max_size=8), st.sampled_from(['"url":"data:', '\\"url\\": "data:x', "\\"])
)
NAMES = st.sampled_from([*FIELDS, "text", "content", 'x"url', "x\\"])
TREES = st.recursive(
    st.one_of(TEXTS, st.integers(), st.none()),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(NAMES, inner, max_size=4)),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(TREES, st.integers(0, 2**32), st.lists(st.integers(1, 2000), max_size=30))
def test_a_body_in_pieces_is_what_it_is_whole(tree: Any, seed: int, sizes: list[int]) -> None:
    # below a field that nobody asks about, so that what is no video is no refusal yet
    body = spelled({"text": tree}, random.Random(seed)).encode("utf-8", "surrogatepass")
    chunks: list[bytes] = []
    for size in [*sizes, len(body)]:
        chunks += [body[:size]] if body else []
        body = body[size:]
    assert asyncio.run(read(chunks)) == whole(b"".join(chunks))


SMALL = (
    rb'{"model":"a","url":"vid_","messages":[{"content":"data:video/mp4;base64,AAAA","x":"\\"},'
    rb'{"video_\u0075rl" : {"url":"data:video\/webm;codecs=vp8,opus;base64,QU\/J\u0044\n%51%3d%3D"},'
    rb'"text":"\u00e9\""}]}'
)


LONG = b"A" * 5000
CUT = {
    "escapes": SMALL,
    "escapes far on": SMALL.replace(b"QU\\/", LONG + b"QU\\/"),
    "more after the end": b'{"url":"data:;base64,' + LONG + b'QQ==QQ=="}',
    "a list": b'{"video": ["vid_", "data:;base64,QQ==" ,"data:;base64,'
    + LONG
    + b'",{"x":["data:;base64,QQ=="]}]}',
    "a picture": b'{"url":"data:image/png,' + "é".encode() * 3000 + b'"}',
    "a name that ends as a field": rb'{"x\"url":"data:;base64,' + LONG + b'"}',
}


@pytest.mark.parametrize("name", CUT)
async def test_a_body_may_be_cut_at_every_byte(name: str) -> None:
    body = CUT[name]
    places = {*range(1, 200), *range(len(body) - 200, len(body)), *range(4000, 4200)}
    for place in places & set(range(1, len(body))):
        assert await read([body[:place], body[place:]]) == whole(body), place
    assert await read([body[n : n + 1] for n in range(len(body))]) == whole(body)


async def test_a_video_may_be_spelled_in_escapes() -> None:
    expected = (await read([SMALL]))["messages"][1]["video_url"]["url"]
    assert expected.content == b"AO\xc9\r"


def test_every_field_of_a_video_is_searched_for() -> None:
    named = {
        name for name, field in PartBody.model_fields.items() if MediaBody.__name__ in repr(field.annotation)
    }
    urls = {
        name for kind in (MediaBody, FileBody) for name in kind.model_fields if name in ("url", "file_data")
    }
    assert named | urls == set(FIELDS)


@pytest.mark.parametrize(
    "part", ["data:video/mp4;base64,AAAA%", "data:video/mp4;base64,A", "data:;base64,AA=A"]
)
async def test_what_is_asked_about_is_refused_before_the_body_ends(part: str) -> None:
    head = '{"messages":[{"content":"x"},{"content":[{"type":"video_url","video_url":{"url":"'
    with pytest.raises(InvalidValueError, match="is not base64") as caught:
        await read([f'{head}{part}"'.encode(), b"no JSON any more"])
    assert caught.value.param == "messages[1].content[0].video_url.url"


async def test_a_video_that_is_none_is_refused_as_it_comes() -> None:
    async def refuse(content: AsyncGenerator[bytes]) -> Kept:
        await anext(content)
        raise unsupported_container()

    async def come() -> AsyncGenerator[bytes]:
        yield b'{"messages":[{"content":[{"file":{"file_data":"data:;base64,' + b"A" * 9000
        raise AssertionError("more was read")

    with pytest.raises(type(unsupported_container())):
        await InlineJson(come(), refuse, 1000).read()


@pytest.mark.parametrize("broken", [rb"\q", rb"\u12g4", b"\n", b"\x00"])
async def test_a_data_url_is_json_to_its_end(broken: bytes) -> None:
    for size in (0, 10_000):
        with pytest.raises(json.JSONDecodeError):
            await read([b'{"url":"data:video/mp4;base64,' + b"A" * size + broken + b'"}'])


async def test_a_body_without_its_videos_is_bounded() -> None:
    video = b'{"url":"data:video/mp4;base64,' + b"A" * 100_000 + b'"}'
    assert (await read([video], 700))["url"].content == bytes(75_000)
    with pytest.raises(Problem, match="at most 700 bytes"):
        await read([video.replace(b"{", b'{"text":"' + b"x" * 200 + b'",')], 700)


async def test_the_same_video_twice_is_one_url() -> None:
    def twin(video: bytes) -> Any:
        url = "data:video/mp4;base64," + base64.b64encode(video).decode()
        return json.dumps(
            [{"url": url}, {"url": "data:video/mp4;base64," + base64.b64encode(b"a" * 2000).decode()}]
        )

    async def urls(text: str) -> list[str]:
        async def come() -> AsyncGenerator[bytes]:
            yield text.encode()

        return [each["url"] for each in json.loads(await InlineJson(come(), keep, 10_000).read())]

    first, second = await urls(twin(b"a" * 2000))
    assert first == second
    first, second = await urls(twin(b"a" * 1999 + b"b"))
    assert first != second


async def test_there_is_an_end_to_data_urls() -> None:
    url = {"url": "data:video/mp4;base64,AAAA"}
    assert len(await read([json.dumps([url] * MAX_DATA_URLS).encode()])) == MAX_DATA_URLS
    with pytest.raises(InvalidValueError, match="more than 64"):
        await read([json.dumps([url] * (MAX_DATA_URLS + 1)).encode()])
