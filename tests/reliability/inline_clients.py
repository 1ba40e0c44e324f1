"""Clients whose video is inside of their request, in a process of their own: PORT MODEL CLIP COUNT BYTES."""

import base64
import json
import secrets
import socket
import sys
import threading
from pathlib import Path

_GROUP = 3  # bytes that base64 has no remainder of


def _box(num_bytes: int, content: bytes = b"") -> bytes:
    """A box that readers skip."""
    return (num_bytes.to_bytes(4, "big") + b"free" + content).ljust(num_bytes, b"\0")


def _status(port: int, body: list[bytes]) -> int:
    with socket.create_connection(("127.0.0.1", port), timeout=300) as connection:
        head = "POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        length = sum(map(len, body))
        connection.sendall(f"{head}Content-Length: {length}\r\nConnection: close\r\n\r\n".encode())
        for part in body:
            connection.sendall(part)
        answer = b""
        while received := connection.recv(65536):
            answer += received
    return int(answer.split(b" ", 2)[1])


def main() -> None:
    """All begin at once; prints a list of their statuses."""
    port, model, path, count, num_bytes = sys.argv[1:]
    clip = Path(path).read_bytes()
    clip += _box(8 + (-len(clip) - 8) % _GROUP)
    head = f'{{"model":"{model}","messages":[{{"role":"user","content":[{{"type":"video_url","video_url":'
    begin = f'{head}{{"url":"data:video/mp4;base64,'.encode() + base64.b64encode(clip)
    filling = base64.b64encode(_box(int(num_bytes) * 3 // 4))
    tail = b'"}},{"type":"text","text":"what is it"}]}],"max_tokens":1}'
    start = threading.Barrier(int(count))
    statuses: list[int] = []

    def ask() -> None:
        own = base64.b64encode(_box(12, secrets.token_bytes(4)))  # no two have the same video
        start.wait()
        statuses.append(_status(int(port), [begin + own, filling, tail]))

    threads = [threading.Thread(target=ask) for _ in range(int(count))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sys.stdout.write(json.dumps(statuses))


if __name__ == "__main__":
    main()
