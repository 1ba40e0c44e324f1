"""A hub of our own that speaks the real one's HTTP, and what it gives away."""

import hashlib
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import torch
from safetensors.torch import save_file

REPO = "someone/tiny"
COMMIT = "1" * 40


class Hub(ThreadingHTTPServer):
    """Serves the files of one repository; `cut_after` breaks the next download off after so many bytes."""

    def __init__(self, files: dict[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files = files
        self.cut_after: int | None = None
        self.ranges: list[str] = []


class Handler(BaseHTTPRequestHandler):
    server: Hub  # pyright: ignore[reportIncompatibleVariableOverride]
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""

    def do_HEAD(self) -> None:
        self._file(with_body=False)

    def do_GET(self) -> None:
        if self.path.startswith("/api/models/"):
            tree = [
                {"type": "file", "oid": "0" * 40, "size": len(data), "path": name}
                for name, data in self.server.files.items()
            ]
            self._send(200, json.dumps(tree).encode(), {"content-type": "application/json"})
            return
        self._file(with_body=True)

    def _file(self, *, with_body: bool) -> None:
        name = self.path.rpartition("/main/")[2] or self.path
        data = self.server.files.get(name.rpartition(f"{COMMIT}/")[2])
        if data is None:
            self._send(404, b"", {"x-error-code": "EntryNotFound"})
            return
        etag = hashlib.sha256(data).hexdigest()
        headers = {"etag": f'"{etag}"', "x-repo-commit": COMMIT, "accept-ranges": "bytes"}
        start, status = 0, 200
        if asked := self.headers.get("range"):
            self.server.ranges.append(asked)
            start, status = int(asked.removeprefix("bytes=").split("-")[0]), 206
            headers["content-range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        self._send(status, data[start:], headers, with_body=with_body)

    def _send(self, status: int, body: bytes, headers: dict[str, str], *, with_body: bool = True) -> None:
        self.send_response(status)
        for name, value in {**headers, "content-length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if not with_body:
            return
        cut, self.server.cut_after = self.server.cut_after, None
        self.wfile.write(body if cut is None else body[:cut])
        if cut is not None:
            self.wfile.flush()
            self.close_connection = True


def safetensors(folder: Path, count: int = 50_000) -> bytes:
    save_file({"w": torch.arange(float(count))}, folder / "w.safetensors")
    return (folder / "w.safetensors").read_bytes()


def pickled(folder: Path) -> bytes:
    torch.save({"llama_proj.weight": torch.ones(3, 2), "llama_proj.bias": torch.ones(3)}, folder / "p.bin")
    return (folder / "p.bin").read_bytes()
