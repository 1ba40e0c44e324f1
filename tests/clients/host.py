"""The server that all clients ask, as people run it, and the gateways before it."""

import contextlib
import hashlib
import json
import os
import subprocess
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import av
import httpx

from btchat.commands.running_server import free_port, running_server
from tests.clients.environments import OPENAI3, ROOT

_VIDEO = ROOT / "weights" / "embedded" / "sample.mp4"
_KEY, _KEY_OF_ONE = "the-key-of-all-clients", "the-key-that-may-have-one-request"
_GATEWAY_KEY = "sk-the-key-of-the-gateway"
_START_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Place:
    """What a client's program is told (`programs/cell.py`)."""

    url: str
    key: str
    key_of_one: str
    model: str
    video: str
    video_id: str
    stale_id: str
    picture: str
    broken: str
    server: str
    server_key: str
    folder: str

    def environment(self) -> dict[str, str]:
        """The variables of a program: this place, and nothing by which it would ask anybody else."""
        closed = {
            "HOME": self.folder,
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "NO_PROXY": "*",
            "OMP_NUM_THREADS": "1",
        }
        return {"PATH": os.environ["PATH"], **closed, "CLIENT_PLACE": json.dumps(asdict(self))}


@contextmanager
def hosted(folder: Path) -> Generator[Place]:
    """A server on the embedded model, with keys, that ends with the block; its things lie in `folder`."""
    keys = folder / "keys"
    keys.write_text(
        f"clients {_hashed(_KEY)}\nnarrow {_hashed(_KEY_OF_ONE)} max_requests_per_key=1\n", encoding="utf-8"
    )
    picture, broken = folder / "picture.jpg", folder / "broken.mp4"
    with av.open(str(_VIDEO)) as container:
        next(container.decode(video=0)).to_image().save(picture)
    broken.write_bytes(_VIDEO.read_bytes()[:9000])
    with running_server(
        folder / "data", settings={"api_keys_file": str(keys), "log_level": "error"}
    ) as server:
        answer = httpx.post(
            f"{server.url}/v1/video/uploads",
            content=_VIDEO.read_bytes(),
            headers={"authorization": f"Bearer {_KEY}"},
            trust_env=False,
        )
        yield Place(
            url=server.url,
            key=_KEY,
            key_of_one=_KEY_OF_ONE,
            model="embedded",
            video=str(_VIDEO),
            video_id=answer.raise_for_status().json()["id"],
            stale_id=f"vid_{'0' * 32}",
            picture=str(picture),
            broken=str(broken),
            server=server.url,
            server_key=_KEY,
            folder=str(folder),
        )


@contextmanager
def gateways(place: Place) -> Generator[Sequence[Place]]:
    """LiteLLM's proxy before the server, once with `drop_params` and once without.

    `openai` and `vllm` are its models, by the providers that it has.
    """
    python = OPENAI3.start()[0]
    processes: list[tuple[subprocess.Popen[bytes], str, Path]] = []
    try:
        for drops in (False, True):
            port, folder = free_port(), Path(place.folder, f"gateway-{drops}")
            folder.mkdir()
            config = folder / "config.yaml"
            config.write_text(json.dumps(_config(place, drops)), encoding="utf-8")  # JSON is YAML
            command = [
                *(str(Path(python).with_name("litellm")), "--config", str(config)),
                *("--host", "127.0.0.1", "--port", str(port), "--telemetry", "False"),
            ]
            with (folder / "log").open("wb") as log:
                process = subprocess.Popen(
                    command, cwd=folder, env=place.environment(), stdout=log, stderr=subprocess.STDOUT
                )
            processes.append((process, f"http://127.0.0.1:{port}", folder / "log"))
        for process, url, log in processes:
            _await(f"{url}/health/liveliness", process, log)
        yield [replace(place, url=url, key=_GATEWAY_KEY) for _process, url, _log in processes]
    finally:
        for process, _url, _log in processes:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
            process.kill()
            process.wait()


def _config(place: Place, drop_params: bool) -> Mapping[str, object]:
    def model(name: str, provider: str, key: str) -> Mapping[str, object]:
        asked = {"model": f"{provider}/{place.model}", "api_base": f"{place.server}/v1", "api_key": key}
        return {"model_name": name, "litellm_params": asked}

    models = [
        *(model(name, provider, place.server_key) for name, provider in _PROVIDERS.items()),
        *(model(f"{name}-of-one", provider, place.key_of_one) for name, provider in _PROVIDERS.items()),
        model("wrong-key", "openai", "a-key-that-is-none"),
    ]
    files = {"custom_llm_provider": "openai", "api_base": f"{place.server}/v1", "api_key": place.server_key}
    return {
        "model_list": models,
        "files_settings": [files],
        "general_settings": {"master_key": _GATEWAY_KEY},
        "litellm_settings": {"drop_params": drop_params, "telemetry": False},
    }


_PROVIDERS = {"openai": "openai", "vllm": "hosted_vllm"}


def _hashed(key: str) -> str:
    return f"sha256:{hashlib.sha256(key.encode()).hexdigest()}"


def _await(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    begin = time.monotonic()
    while time.monotonic() - begin < _START_SECONDS and process.poll() is None:
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(url, trust_env=False).is_success:
                return
        time.sleep(0.2)
    raise AssertionError(f"the gateway did not start: {log.read_text(encoding='utf-8')[-500:]}")
