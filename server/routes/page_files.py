"""Scripts and styles of the documentation's pages, from memory: they are few, and anybody may ask for them.

An answer from a file keeps it open as long as its client takes to read, and connections alone are counted.
"""

import os
from functools import cache
from pathlib import Path

from fastapi import FastAPI
from starlette.responses import FileResponse, Response
from starlette.routing import Mount
from starlette.staticfiles import PathLike, StaticFiles
from starlette.types import Scope


def keep_in_memory(app: FastAPI) -> None:
    """Serve the folders that are mounted here from memory: each file is read once."""
    for route in app.routes:
        if isinstance(route, Mount) and isinstance(files := route.app, StaticFiles):
            route.app = _RememberedFiles(directory=files.directory)


class _RememberedFiles(StaticFiles):
    def file_response(
        self, full_path: PathLike, stat_result: os.stat_result, scope: Scope, status_code: int = 200
    ) -> Response:
        response = super().file_response(full_path, stat_result, scope, status_code)
        if not isinstance(response, FileResponse):
            return response  # the client has it
        del response.headers["accept-ranges"]
        return Response(_content(full_path), headers=dict(response.headers))


@cache  # of what is in the folder, no more
def _content(path: PathLike) -> bytes:
    return Path(path).read_bytes()
