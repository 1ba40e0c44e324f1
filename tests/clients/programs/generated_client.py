"""A client that is made of the server's document uploads a video, asks, and reads the receipt as types."""

import io
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from urllib.request import urlopen


def main() -> int:
    """Prints what is wrong; nothing where all is well."""
    place = json.loads(os.environ["CLIENT_PLACE"])
    url, key, clip = place["url"].removesuffix("/v1"), place["key"], place["video"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "openapi.json").write_bytes(urlopen(f"{url}/openapi.json").read())
        program = Path(sys.executable).with_name("openapi-python-client")
        command = [str(program), "generate", "--path", "openapi.json", "--meta", "none"]
        made = subprocess.run(
            [*command, "--output-path", "made"], cwd=folder, capture_output=True, text=True, check=False
        )
        if not (folder / "made").is_dir():
            sys.stdout.write(made.stdout + made.stderr)
            return 1
        sys.path.insert(0, name)
        return _ask(url, key, Path(clip))


def _ask(url: str, key: str, clip: Path) -> int:
    from made import AuthenticatedClient  # noqa: PLC0415 - it has just been made
    from made.api.chat import chat  # noqa: PLC0415
    from made.api.videos import upload  # noqa: PLC0415
    from made.models import ChatBody, Completion, Receipt, VideoObject  # noqa: PLC0415
    from made.types import File  # noqa: PLC0415

    with AuthenticatedClient(base_url=url, token=key) as client:
        content = File(io.BytesIO(clip.read_bytes()))
        video = upload.sync(client=client, body=content, filename="clip.mp4")
        assert isinstance(video, VideoObject), video
        body = ChatBody(video=video.id, question="does the circle appear or disappear?")
        answer = chat.sync(client=client, body=body)
    assert isinstance(answer, Completion), answer
    receipt = answer.receipt
    assert isinstance(receipt, Receipt), receipt
    assert receipt.video == video.id
    assert receipt.frames.count == len(receipt.frames.timestamps) > 0
    assert answer.choices[0].message.content
    return 0


if __name__ == "__main__":
    sys.exit(main())
