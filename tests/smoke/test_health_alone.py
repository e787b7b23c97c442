"""The modules that a container's health check loads."""

from __future__ import annotations

import subprocess
import sys

from tests.support.patience import PATIENCE

LOOK = """
import sys
from ollama_gateway.__main__ import main
sys.argv = ["gatewayctl", "health", "--help"]
try:
    main()
except SystemExit as ended:
    assert not ended.code
print({"psycopg", "redis", "hypercorn"} & set(sys.modules) or "nothing")
"""


def test_health_loads_no_other_command() -> None:
    """`health` imports no stores and servers, since it runs every few seconds."""
    said = subprocess.check_output([sys.executable, "-c", LOOK], text=True, timeout=PATIENCE)

    assert "--ready" in said
    assert said.splitlines()[-1] == "nothing"
