"""The command line of the engine process."""

import sys

from server.engine.supervisor import Command
from server.settings import Settings
from server.uploads.token_folders import TOKENS


def engine_command(settings: Settings) -> Command:
    """The command line that starts the real engine."""
    optional = {
        "--threads": settings.threads,
        "--dtype": settings.dtype,
        "--model-memory-bytes": settings.model_memory_bytes,
        "--max-context": settings.max_context,
        "--kv-bytes": settings.kv_bytes,
    }
    given = [part for flag, value in optional.items() if value is not None for part in (flag, str(value))]

    def command(socket_fd: int) -> list[str]:
        return [
            *(sys.executable, "-m", "server.worker.__main__"),
            *("--socket-fd", str(socket_fd)),
            *(part for name in settings.model for part in ("--model", name)),
            *("--weights-dir", str(settings.weights_dir)),
            *("--device", settings.device),
            *("--quantise", settings.quantise),
            *("--max-batch", str(settings.max_batch)),
            *("--watchdog-seconds", str(settings.watchdog_seconds)),
            *("--feature-cache-bytes", str(settings.feature_cache_bytes)),
            *("--live-window-bytes", str(settings.live_window_bytes)),
            *("--token-dir", str(settings.data_dir / TOKENS)),
            *("--token-store-bytes", str(settings.token_store_bytes)),
            *("--log-level", settings.log_level, "--log-format", settings.log_format),
            *given,
        ]

    return command
