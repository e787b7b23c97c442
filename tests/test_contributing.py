"""The example that contributors start from."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests.support.patience import PATIENCE

ROOT = Path(__file__).parent.parent
CONFIG = ROOT / "pyproject.toml"


def test_the_scenario_of_the_page_passes(tmp_path: Path) -> None:
    """docs/contributing.md shows a test that runs as it stands."""
    page = (ROOT / "docs" / "contributing.md").read_text()
    (example,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    file = tmp_path / "test_example.py"
    file.write_text(example)

    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-c", CONFIG, file],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )

    assert "1 passed" in run.stdout, run.stdout
