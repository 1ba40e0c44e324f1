"""A client that openapi-python-client makes of the server's document."""

import subprocess

from tests.clients.environments import OPENAPI, PROGRAMS
from tests.clients.host import Place

NAME = "openapi-python-client"


def generated_fault(place: Place) -> str:
    """What is wrong with it; empty where it asks a question and reads the receipt as types.

    Raises:
        AbsentError: it cannot be installed here.
    """
    command = [*OPENAPI.start(), str(PROGRAMS / "generated_client.py")]
    done = subprocess.run(
        command, env=place.environment(), capture_output=True, text=True, timeout=300, check=False
    )
    return (done.stdout + done.stderr)[-600:] if done.returncode else ""
