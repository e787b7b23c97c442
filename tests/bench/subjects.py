"""The subjects, each a process of its own before the same upstream.

direct    nothing between client and upstream
plain     `tests/bench/plain.py`
gateway   `gatewayctl serve` with all of its work: a key with all four limits, the audit
          journal, hedging, the log; in a directory of its own
nginx     if it is in PATH: one worker, no buffering, kept-alive connections
litellm   if BENCH_LITELLM names a virtual environment that has it: one worker, a key
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Final

import attrs

from ollama_gateway.keys.key import KeyLimits
from ollama_gateway.keys.location import location_of
from tests.bench import tree
from tests.smoke.fleet import clean_environment, free_port

PATIENCE: Final = 60.0
PLENTY: Final = KeyLimits(10**9, 10**6, 10**12, 10**12)
"""All four limits, and never reached."""
CHAT: Final = "/api/chat"
COMPLETIONS: Final = "/v1/chat/completions"
MESSAGES: Final = [{"role": "user", "content": "Why is the sky blue? " * 20}]
NGINX: Final = """
daemon off; worker_processes 1; error_log stderr error; pid {directory}/pid;
events {{ worker_connections 8192; }}
http {{
  access_log off; keepalive_requests 1000000;
  client_body_temp_path {directory}/1; proxy_temp_path {directory}/2;
  fastcgi_temp_path {directory}/3; uwsgi_temp_path {directory}/4; scgi_temp_path {directory}/5;
  upstream ollama {{ server 127.0.0.1:{upstream}; keepalive 1024; keepalive_requests 1000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{
      proxy_pass http://ollama; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_buffering off; proxy_read_timeout 600s;
    }}
  }}
}}
"""
LITELLM: Final = """
model_list:
{models}
general_settings: {{master_key: sk-bench}}
"""
LITELLM_MODEL: Final = """
  - model_name: "pace:{pace}"
    litellm_params: {{model: "openai/pace:{pace}", api_base: "{url}/v1", api_key: none}}
"""


@attrs.frozen
class Subject:
    """A process that answers chats."""

    name: str
    port: int
    pid: int | None = None
    """The root of its processes; None if there is none."""
    key: str = ""
    admin_port: int = 0
    """Key of a gateway."""

    def request(self, path: str, *, pace: int, chunks: int, streams: bool = True) -> str:
        """Return a request's head and body."""
        bound = {"options": {"num_predict": chunks}} if path == CHAT else {"max_tokens": chunks}
        ask = {"model": f"pace:{pace}", "messages": MESSAGES, "stream": streams, **bound}
        body = json.dumps(ask)
        return (
            f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {self.key}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}"
        )


@contextmanager
def process(
    command: Sequence[str],
    port: int,
    directory: Path,
    environment: Mapping[str, str] | None = None,
) -> Iterator[int]:
    """Run a program until the end of the block, from the moment it listens; yield its pid.

    Its output goes to a file, which is part of the error if it fails to start.
    """
    log = directory / f"{port}.log"
    with log.open("wb") as output:
        popen = subprocess.Popen(
            command,
            env={**clean_environment(), **(environment or {})},
            stdout=output,
            stderr=output,
        )
    try:
        _wait_for(port, popen, log)
        yield popen.pid
    finally:
        _stop(popen)


def _wait_for(port: int, popen: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and popen.poll() is None:
        with socket.socket() as sock:
            if sock.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise RuntimeError(f"{popen.args!r} did not start: {log.read_text()[-2000:]}")


def _stop(popen: subprocess.Popen[bytes]) -> None:
    """Send SIGTERM to the innermost process: a profiler around it then ends and writes its file."""
    os.kill(tree.pids(popen.pid)[-1] if _is_profiler(popen) else popen.pid, signal.SIGTERM)
    try:
        popen.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        popen.kill()
        popen.wait()


def _is_profiler(popen: subprocess.Popen[bytes]) -> bool:
    return isinstance(popen.args, list) and popen.args[0] == "py-spy"


@contextmanager
def upstream(directory: Path) -> Iterator[Subject]:
    """Start the backend, which is also the subject `direct`."""
    port = free_port()
    with process([sys.executable, "-m", "tests.bench.upstream", str(port)], port, directory) as pid:
        yield Subject("direct", port, pid)


@contextmanager
def plain(directory: Path, backend: int) -> Iterator[Subject | None]:
    """Start the plain proxy."""
    port = free_port()
    command = [sys.executable, "-m", "tests.bench.plain", str(port), str(backend)]
    with process(command, port, directory) as pid:
        yield Subject("plain", port, pid)


@contextmanager
def gateway(
    directory: Path,
    backend: int,
    *,
    name: str = "gateway",
    profile: str = "",
    backends: int = 1,
    **settings: str,
) -> Iterator[Subject]:
    """Start the gateway, profiled if a file is named; all its backends are the same."""
    data, port, admin_port = directory / f"{name}-data", free_port(), free_port()
    data.mkdir(mode=0o700)
    with closing(location_of(data, None).open()) as store:
        _, key = store.create("bench", limits=PLENTY)
    environment = {
        "OLLAMA_BACKENDS": ",".join(
            f"bench{number}=http://127.0.0.1:{backend}" for number in range(backends)
        ),
        "GATEWAY_STORAGE_DATA_DIR": str(data),
        "GATEWAY_SERVER_BIND": f"127.0.0.1:{port}",
        "GATEWAY_SERVER_ADMIN_BIND": f"127.0.0.1:{admin_port}",
        **settings,
    }
    command = [*_profiler(profile), "-m", "ollama_gateway", "serve"]
    with process(command, port, directory, environment) as pid:
        yield Subject(name, port, pid, key, admin_port)


def _profiler(file: str) -> list[str]:
    """Return the command for Python: with cProfile for `.pstats`, else py-spy, or without both."""
    if not file:
        return [sys.executable]
    if file.endswith(".pstats"):
        return [sys.executable, "-m", "cProfile", "-o", file]
    kind = "flamegraph" if file.endswith(".svg") else "raw"
    return ["py-spy", "record", "-r", "250", "-f", kind, "-o", file, "--", sys.executable]


@contextmanager
def nginx(directory: Path, backend: int) -> Iterator[Subject | None]:
    """Start nginx; None if it is not installed."""
    program = shutil.which("nginx")
    if program is None:
        yield None
        return
    port, own = free_port(), directory / "nginx"
    own.mkdir()
    configuration = own / "nginx.conf"
    configuration.write_text(NGINX.format(directory=own, upstream=backend, port=port))
    command = [program, "-p", str(own), "-e", "stderr", "-c", str(configuration)]
    with process(command, port, directory) as pid:
        yield Subject("nginx", port, pid)


@contextmanager
def litellm(directory: Path, backend: int) -> Iterator[Subject | None]:
    """Start LiteLLM's proxy; None if BENCH_LITELLM names no virtual environment with it."""
    place = os.environ.get("BENCH_LITELLM", "")
    program = Path(place, "bin", "litellm")
    if not place or not program.exists():
        yield None
        return
    port, configuration = free_port(), directory / "litellm.yaml"
    url = f"http://127.0.0.1:{backend}"
    models = "".join(LITELLM_MODEL.format(pace=pace, url=url) for pace in (0, 1, 20))
    configuration.write_text(LITELLM.format(models=models))
    command = [str(program), "--config", str(configuration), "--host", "127.0.0.1"]
    command += ["--port", str(port), "--num_workers", "1", "--telemetry", "False"]
    environment = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR"}
    with process(command, port, directory, environment) as pid:
        yield Subject("litellm", port, pid, "sk-bench")


@contextmanager
def subjects(
    directory: Path, names: Sequence[str], profile: str = "", backends: int = 1
) -> Iterator[dict[str, Subject]]:
    """Start the named subjects that are installed, and always the upstream, for the block."""
    others = {"plain": plain, "nginx": nginx, "litellm": litellm}
    with ExitStack() as stack:
        direct = stack.enter_context(upstream(directory))
        opened = [others[name](directory, direct.port) for name in names if name in others]
        found = [direct, *(stack.enter_context(one) for one in opened)]
        if "gateway" in names:
            ours = gateway(directory, direct.port, profile=profile, backends=backends)
            found.append(stack.enter_context(ours))
        yield {one.name: one for one in found if one is not None}
