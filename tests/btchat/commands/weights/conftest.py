"""The hub for these tests."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.btchat.commands.weights.hub import Hub, pickled, safetensors


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    source = tmp_path / "source"
    source.mkdir()
    files = {
        "model.safetensors": safetensors(source),
        "projection.bin": pickled(source),
        "config.json": b"{}",
    }
    server = Hub(files)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}"
    for module in ("constants", "file_download", "hf_api"):
        monkeypatch.setattr(f"huggingface_hub.{module}.ENDPOINT", url, raising=False)
    monkeypatch.setattr(
        "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE",
        url + "/{repo_id}/resolve/{revision}/{filename}",
    )
    monkeypatch.setattr(
        "huggingface_hub.file_download.HUGGINGFACE_CO_URL_TEMPLATE",
        url + "/{repo_id}/resolve/{revision}/{filename}",
        raising=False,
    )
    yield server
    server.shutdown()
    server.server_close()
