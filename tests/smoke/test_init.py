"""`gatewayctl init`, and the commands that it ends with, run as they are printed."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Final

from tests.smoke.fleet import clean_environment, ctl, free_port, running
from tests.support.patience import PATIENCE

OLLAMA: Final = """#!{python}
import sys
import ollama
command, model = sys.argv[1:]
assert command == "run"
chat = ollama.chat(model, [{{"role": "user", "content": "Hello"}}])
print("ollama:", chat.message.content)
"""
"""Stands in for `ollama run`: the same client library, which reads OLLAMA_HOST, and no terminal."""


def init(directory: Path, *servers: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `gatewayctl init` in a directory, without a terminal."""
    return subprocess.run(
        [sys.executable, "-m", "ollama_gateway", "init", *servers],
        cwd=directory,
        env={**clean_environment(), **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def shell(script: str, directory: Path, environment: dict[str, str]) -> str:
    """Run lines in a shell; return what they print."""
    return subprocess.run(
        ["/bin/sh", "-euc", script],
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    ).stdout


def test_from_init_to_a_chat(tmp_path: Path) -> None:
    """Each printed command works as it is: serve, a key, curl, and a client with OLLAMA_HOST."""
    ports = [free_port() for _ in range(4)]
    settings = {
        "GATEWAY_SERVER_BIND": f"127.0.0.1:{ports[2]}",
        "GATEWAY_SERVER_ADMIN_BIND": f"127.0.0.1:{ports[3]}",
        "GATEWAY_STORAGE_DATA_DIR": str(tmp_path / "data"),
    }
    ollama = tmp_path / "bin" / "ollama"
    ollama.parent.mkdir()
    ollama.write_text(OLLAMA.format(python=sys.executable))
    ollama.chmod(0o755)
    path = f"{ollama.parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**clean_environment(), **settings, "PATH": path, "NO_PROXY": "*"}
    simulator = ("ollama_gateway.simulator", "--model", "m1:latest", "--token-delay", "1ms")
    with running(*simulator, "--port", str(ports[0])) as first:
        first.wait_for("simulated Ollama")
        made = init(tmp_path, f"127.0.0.1:{ports[0]}", f"b=127.0.0.1:{ports[1]}", **settings)
        assert (made.returncode, made.stderr) == (0, "")
        steps = [line.strip() for line in made.stdout.splitlines() if line.startswith("  ")]
        serve, key, curl, run = steps
        with subprocess.Popen(
            ["/bin/sh", "-c", f"exec {serve}"],
            cwd=tmp_path,
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        ) as gateway:
            try:
                assert gateway.stderr is not None
                assert any("serving" in line for line in gateway.stderr)
                said = shell(f"{key}\n{curl}\n{run}", tmp_path, environment)
            finally:
                gateway.terminate()

    assert '"done_reason":"stop"' in said
    assert "ollama: Hello from a simulated model" in said


def test_the_settings_that_it_writes(tmp_path: Path) -> None:
    """All servers have one priority, also those that are down, and the file is in order."""
    made = init(tmp_path, "127.0.0.1:1", "b=127.0.0.1:2")
    written = tomllib.loads((tmp_path / "gateway.toml").read_text())
    checked = ctl("config", "check", "--config", str(tmp_path / "gateway.toml"), environment={})

    assert made.returncode == 0
    assert written["backends"] == [
        {"name": "ollama-1", "url": "http://127.0.0.1:1", "priority": 1},
        {"name": "b", "url": "http://127.0.0.1:2", "priority": 1},
    ]
    assert (checked.returncode, checked.stderr) == (0, "")
    assert init(tmp_path, "127.0.0.1:1").returncode == 2


def test_what_it_says_of_servers(tmp_path: Path) -> None:
    """It says which port it assumed, and what to do where another machine refuses."""
    # Linux takes 0.0.0.0 for this machine, and no one else does: it is not a loopback address.
    made = init(tmp_path, "127.0.0.1", "0.0.0.0:1", OLLAMA_BACKENDS="a=http://a")

    assert "http://127.0.0.1:11434 (no port given: 11434, Ollama's own)" in made.stdout
    assert "http://0.0.0.0:1  down: cannot connect: refused" in made.stdout
    assert made.stdout.count("Ollama listens on loopback unless OLLAMA_HOST=0.0.0.0") == 1
    assert "OLLAMA_BACKENDS is set" in made.stderr


def test_wrong_servers_are_refused_together(tmp_path: Path) -> None:
    """Every wrong argument is a line, and nothing is written."""
    made = init(tmp_path, "ftp://gpu", "gpu/v1", "gpu", "http://gpu:11434")

    assert (made.returncode, made.stdout) == (2, "")
    assert [line.partition(": ")[0] for line in made.stderr.splitlines()] == [
        "ftp://gpu",
        "gpu/v1",
        "http://gpu:11434",
    ]
    assert not (tmp_path / "gateway.toml").exists()
