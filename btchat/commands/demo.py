"""`btchat demo`: a server in a process of its own, a sample clip uploaded, an answer streamed back."""

import json
import tempfile
from pathlib import Path
from typing import Annotated

import httpx
from cyclopts import Parameter

from bt_model.assembly.catalog import BUILT_IN
from bt_model.errors import BtchatError
from btchat.commands.invocation import invocation, shown_path
from btchat.commands.options import a_port
from btchat.commands.running_server import running_server

Port = Annotated[int, Parameter(validator=a_port)]
QUESTION = "does the circle appear or disappear?"


def demo(*, port: Port = 8000, once: bool = False) -> int:
    """Start a server, ask it about a sample clip, keep serving.

    Args:
        port: where it listens
        once: stop after the answer, with exit code 0 if it arrived
    """
    clip = BUILT_IN / "embedded" / "sample.mp4"
    _say(f"starting a server with the embedded model on port {port}")
    with (
        tempfile.TemporaryDirectory(prefix="btchat-demo-") as data_dir,
        running_server(Path(data_dir), port=port, settings={"log_level": "warning"}, report=_say) as server,
    ):
        with httpx.Client(base_url=server.url, timeout=60.0, trust_env=False) as client:
            _say(f"uploading {shown_path(clip)}")
            video = _upload(client, clip)
            print(f"asking about {video}\n\n  {QUESTION}\n  ", end="", flush=True)
            receipt = _ask(client, video)
            print(f"\n\nframes seen: {receipt['frames']['indices']}")
            _say(f"the model: {_checked(client.get('/v1/models/embedded'))['notice']}")
        _say(_next_commands(clip, None if once else server.url))
        if once:
            return 0
        _say("\nserving until Ctrl-C")
        return server.process.wait()


def _next_commands(clip: Path, url: str | None) -> str:
    """What to type next, as it works in this folder; `url` is that of a server that goes on."""
    btchat, path = invocation(), shown_path(clip)
    lines = [
        "\nnext:",
        f'  {btchat} ask {path} "what colour is the circle?"',
        f"  {btchat} frames {path}",
    ]
    if url is None:
        return "\n".join([*lines, f"  {btchat} serve", f"  {btchat} --help"])
    upload = f"curl -s --data-binary @{path} -H 'content-type: video/mp4' {url}/v1/video/uploads"
    return "\n".join([*lines, f"  {upload}", f"\nall routes: {url}/docs"])


def _say(line: str) -> None:
    print(line, flush=True)


def _upload(client: httpx.Client, clip: Path) -> str:
    answer = client.post(
        "/v1/video/uploads", content=clip.read_bytes(), headers={"content-type": "video/mp4"}
    )
    return str(_checked(answer)["id"])


def _ask(client: httpx.Client, video: str) -> dict[str, dict[str, list[int]]]:
    """Print the answer as it streams in; its receipt."""
    body = {
        "model": "embedded",
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": QUESTION},
                    {"type": "video_url", "video_url": {"url": video}},
                ],
            }
        ],
        "stream": True,
    }
    receipt, has_text = None, False
    with client.stream("POST", "/v1/chat/completions", json=body) as answer:
        if not answer.is_success:
            answer.read()
            _checked(answer)
        for line in answer.iter_lines():
            data = line.removeprefix("data: ")
            if data in {line, "[DONE]"}:
                continue
            chunk = json.loads(data)
            if "error" in chunk:
                raise BtchatError(chunk["error"]["message"])
            receipt = chunk.get("receipt") or receipt
            for choice in chunk["choices"]:
                text = choice["delta"].get("content") or ""
                has_text = has_text or bool(text)
                print(text, end="", flush=True)
    if receipt is None or not has_text:
        raise BtchatError("the answer ended without text or without its receipt")
    return receipt


def _checked(answer: httpx.Response) -> dict[str, object]:
    if not answer.is_success:
        raise BtchatError(f"the server answered {answer.status_code}: {answer.text}")
    return answer.json()
