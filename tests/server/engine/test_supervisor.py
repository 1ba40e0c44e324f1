"""The engine process as its supervisor starts it."""

import asyncio
import sys
from pathlib import Path

import pytest

from bt_model.errors import CheckpointError
from server.engine.supervisor import RestartRule, Supervisor, launch_process

SHOW = "import os, sys; open(sys.argv[1], 'w').write(os.environ['GLIBC_TUNABLES'])"


@pytest.mark.parametrize("own", ["", "glibc.malloc.perturb=0"])
async def test_it_has_huge_pages_unless_its_environment_says_otherwise(
    own: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    if own:
        monkeypatch.setenv("GLIBC_TUNABLES", own)
    told = tmp_path / "told"
    command = [sys.executable, "-c", SHOW, str(told)]
    supervisor = Supervisor(lambda _: command, lambda *_: None, lambda: None, RestartRule(), launch_process)
    with pytest.raises(CheckpointError, match="ended before it was ready"):
        await asyncio.wait_for(supervisor.start(), 30)
    assert told.read_text() == (own or "glibc.malloc.hugetlb=1")
