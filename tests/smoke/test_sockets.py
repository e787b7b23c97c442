"""A socket that outlives its gateways, like a `.socket` unit of systemd."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.smoke.fleet import PATIENCE, Process, clean_environment, free_port

HAND_OVER = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1", "LISTEN_FDNAMES": "x.socket"}
os.execv(sys.executable, [sys.executable, "-m", "ollama_gateway", "serve"])
"""
"""The code that systemd runs between fork and exec."""


@contextmanager
def serving_on(sock: socket.socket, data_dir: Path) -> Iterator[Process]:
    """Run a gateway with this socket; `/` needs no backend."""
    settings = {
        "GATEWAY_STORAGE_DATA_DIR": str(data_dir),
        "GATEWAY_SERVER_BIND": "127.0.0.1:1",  # not used; not ours to bind
        "GATEWAY_SERVER_ADMIN_BIND": "127.0.0.1:0",
        "OLLAMA_BACKENDS": f"a=http://127.0.0.1:{free_port()}",
    }
    with subprocess.Popen(
        [sys.executable, "-c", HAND_OVER, str(sock.fileno())],
        env={**clean_environment(), **settings},
        pass_fds=[sock.fileno()],
        stderr=subprocess.PIPE,
        text=True,
    ) as popen:
        process = Process(popen)
        assert popen.stderr is not None
        reader = threading.Thread(target=process.watch, args=(popen.stderr,))
        reader.start()
        try:
            yield process
        finally:
            popen.kill()
            reader.join(PATIENCE)


def greeting(port: int) -> str:
    """Return the answer of `/`, waiting for a gateway like a client."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=PATIENCE) as response:
        text: str = response.read().decode()
        return text


def test_no_client_is_refused_between_two_gateways(tmp_path: Path) -> None:
    """The next gateway answers a client that connects after the last one has ended."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
        with serving_on(sock, tmp_path) as first:
            assert json.loads(first.wait_for("serving"))["address"] == f"http://127.0.0.1:{port}"
            assert greeting(port) == "Ollama is running"
            assert first.stop(signal.SIGTERM) == 0
        with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as waiting:
            waiting.sendall(b"GET / HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n")
            with serving_on(sock, tmp_path) as second:
                assert waiting.recv(65536).startswith(b"HTTP/1.1 200")
                assert second.stop(signal.SIGTERM) == 0
