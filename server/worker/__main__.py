"""The engine process. Of the service only this file and those that it alone imports load torch."""

import argparse
import asyncio
import math
import os
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import torch

from bt_model.assembly.placement import DTYPES
from bt_model.errors import BtchatError
from bt_model.types import Quantise
from server.engine import wire
from server.engine.packing import pack
from server.log.lines import LogFormat, configure_log
from server.worker.loader import DEFAULT_CACHE, CacheSettings, DiskLoader
from server.worker.requests import Worker
from server.worker.token_cache import TokenCache
from server.worker.token_store import TokenStore


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m server.worker.__main__")
    parser.add_argument("--socket-fd", type=int, required=True)
    parser.add_argument(
        "--model",
        required=True,
        action="append",
        help="a name under --weights-dir, or a path to a model file; all but the first are loaded when used",
    )
    parser.add_argument("--weights-dir", type=Path, required=True)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", choices=DTYPES, help="default: the device's own")
    parser.add_argument("--quantise", choices=get_args(Quantise), default="none")
    parser.add_argument("--model-memory-bytes", type=int, help="all loaded models together")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads of torch; 0 leaves its default")
    parser.add_argument("--feature-cache-bytes", type=int, default=1 << 30)
    parser.add_argument("--live-window-bytes", type=int, default=0, help="of all live sessions together")
    parser.add_argument(
        "--token-dir", type=Path, required=True, help="where tokens are kept for the next start"
    )
    parser.add_argument("--token-store-bytes", type=int, default=0, help="of all of them; 0 keeps none")
    parser.add_argument("--watchdog-seconds", type=float, default=math.inf)
    parser.add_argument("--max-batch", type=int, default=DEFAULT_CACHE.max_batch)
    parser.add_argument("--max-context", type=int, help="default: the model's own")
    parser.add_argument("--kv-bytes", type=int, help="of each model; default: what is free")
    parser.add_argument("--log-level", default="info")
    parser.add_argument("--log-format", choices=get_args(LogFormat), default="auto")
    return parser.parse_args(argv)


async def _serve(arguments: argparse.Namespace) -> int:
    sock = socket.socket(fileno=arguments.socket_fd)
    try:
        loader = DiskLoader(
            arguments.model,
            arguments.weights_dir,
            device=arguments.device,
            dtype=arguments.dtype,
            quantise=arguments.quantise,
            cache=CacheSettings(
                arguments.max_batch,
                arguments.max_context,
                arguments.kv_bytes,
                reserved_bytes=arguments.feature_cache_bytes + arguments.live_window_bytes,
                model_bytes=arguments.model_memory_bytes,
            ),
        )
        limit, features = arguments.model_memory_bytes, arguments.feature_cache_bytes
        worker = Worker(
            loader,
            sock,
            tokens=TokenCache(features, TokenStore(arguments.token_dir, arguments.token_store_bytes)),
            max_model_bytes=limit,
            watchdog_seconds=arguments.watchdog_seconds,
            max_live_bytes=arguments.live_window_bytes,
        )
        return 0 if await worker.run() else 1
    except BtchatError as error:
        sock.setblocking(True)
        sock.sendall(pack(wire.StartFailed(error.message)))
        return 1


def main(argv: Sequence[str] | None = None) -> int:
    """Load the first model, send `Ready`, serve."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # it ends with its socket: a service
        signal.signal(number, signal.SIG_IGN)  # manager that signals all processes lets answers end in turn
    arguments = _arguments(argv)
    configure_log(arguments.log_level, arguments.log_format, "engine")
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    return asyncio.run(_serve(arguments))


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # a thread in the middle of a matrix product aborts a process whose interpreter ends first
