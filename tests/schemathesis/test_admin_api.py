"""Schemathesis asks a real gateway's admin API for all that its description allows, and forbids."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final

from tests.smoke.fleet import fleet

TOKEN: Final = "operators-only-token"
CONFIG: Final = Path(__file__).parent / "schemathesis.toml"
EXAMPLES: Final = 50
"""Cases for each operation and phase."""
SECONDS: Final = 900


def test_the_admin_api_keeps_its_description(tmp_path: Path) -> None:
    """No input leads to an answer of 500, to one that is not described, or past a check."""
    simulators = {"a": ("--model", "m1:1")}
    with fleet(tmp_path, simulators, GATEWAY_SERVER_ADMIN_TOKEN=TOKEN) as started:
        [gateway] = started.gateways
        address = f"http://127.0.0.1:{gateway.admin_port}"
        run = subprocess.run(
            [
                str(Path(sys.executable).with_name("schemathesis")),
                f"--config-file={CONFIG}",
                "run",
                f"{address}/admin/v1/openapi.json",
                f"--url={address}",
                f"--header=Authorization: Bearer {TOKEN}",
                f"--max-examples={EXAMPLES}",
            ],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        failed = [line for line in gateway.process.lines if "request failed" in line]

    assert run.returncode == 0, run.stdout + run.stderr
    assert failed == []
