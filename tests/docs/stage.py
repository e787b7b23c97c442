"""Two simulated Ollamas and a gateway, for the commands of a page.

Pages name the addresses that their readers have. Here those of this run take their place, and a
key that of `ogw_...`; everything else runs as it stands.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Final

import attrs

from ollama_gateway.keys.key import KeyLimits
from ollama_gateway.keys.location import location_of
from tests.smoke.fleet import clean_environment, free_port, running
from tests.support.patience import PATIENCE

MODELS: Final = ("--model", "llama3.2", "qwen3:8b", "nomic-embed-text", "--registry", "llama3.2")
PRELUDE: Final = """\
set -eu -o pipefail
serve() {
    gatewayctl serve 2>>serve.log &
    until grep --quiet serving serve.log; do
        kill -0 $! || { cat serve.log; exit 1; }
        sleep 0.1
    done
}
"""
SERVE: Final = re.compile(r"^gatewayctl serve\b[^\n]*$", re.MULTILINE)
"""It runs until the page ends; the next command waits until it serves."""
GATEWAY: Final = """\
cat >gateway.toml <<'END'
[[backends]]
name = "gpu-1"
url = "http://10.0.0.5:11434"

[[backends]]
name = "gpu-2"
url = "http://10.0.0.6:11434"
END
serve
python - <<'END'
import ollama
messages = [{"role": "user", "content": "Hi"}]
client = ollama.Client("http://gateway:11435", headers={"Authorization": "Bearer ogw_..."})
client.chat("llama3.2", messages)
END
read_id='import json; print(json.loads(input())["request_id"])'
request=$(gatewayctl audit list --json | python -c "$read_id")
"""
"""What a page finds that does not start a gateway: a running one, which has answered a chat."""


@attrs.frozen
class Run:
    """How a page's script ended, and what it printed."""

    code: int
    output: str
    errors: str


@attrs.frozen
class Stage:
    """Where a page's commands run.

    Args:
        directory: the working directory.
        environment: the environment variables.
        replaced: patterns of what pages name, and what takes its place.

    """

    directory: Path
    environment: dict[str, str]
    replaced: dict[str, str]

    def run(self, script: str) -> Run:
        """Run a page's script, and end what it started."""
        if SERVE.search(script) is None:
            script = GATEWAY + script
        for pattern, own in self.replaced.items():
            script = re.sub(pattern, own, script)
        output, errors = self.directory / "output.txt", self.directory / "errors.txt"
        with output.open("w") as stdout, errors.open("w") as stderr:
            popen = subprocess.Popen(
                ["/bin/bash", "-c", PRELUDE + SERVE.sub("serve", script)],
                cwd=self.directory,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                start_new_session=True,
            )
            try:
                popen.wait(10 * PATIENCE)
            finally:
                with suppress(ProcessLookupError):
                    os.killpg(popen.pid, signal.SIGKILL)
                popen.wait(PATIENCE)
        return Run(popen.returncode, output.read_text(), errors.read_text())


@contextmanager
def stage(directory: Path, programs: Path) -> Iterator[Stage]:
    """Run two simulators during the block, and make a key.

    Args:
        directory: an empty directory.
        programs: the directory of `gatewayctl` and `python`.

    """
    with ExitStack() as stack:
        first, second = (_simulator(stack) for _ in range(2))
        public = f"127.0.0.1:{free_port()}"
        with closing(location_of(directory / "data", None).open()) as store:
            _, key = store.create("reader", limits=KeyLimits())
        yield Stage(
            directory,
            {
                **clean_environment(),
                "HOME": str(directory),
                "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
                "GATEWAY_SERVER_BIND": public,
                "GATEWAY_SERVER_ADMIN_BIND": f"127.0.0.1:{free_port()}",
                "GATEWAY_STORAGE_DATA_DIR": str(directory / "data"),
            },
            {
                r"10\.0\.0\.5:11434|127\.0\.0\.1:11434": first,
                r"10\.0\.0\.6:11434": second,
                r"gateway:11435|127\.0\.0\.1:11435": public,
                r"ogw_\.\.\.": key,
                r"\b[0-9a-f]{32}\b": "$request",
            },
        )


def _simulator(stack: ExitStack) -> str:
    process = stack.enter_context(running("ollama_gateway.simulator", "--port", "0", *MODELS))
    return process.wait_for("http://").rpartition("http://")[2]
