"""A backup of a gateway that serves, restored into a directory that another one then serves."""

from __future__ import annotations

import json
import threading
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ollama_gateway.backup.archive import extract
from ollama_gateway.keys.key import KeyLimits
from ollama_gateway.limits.usage_file import read_file
from tests.smoke.fleet import PATIENCE, Fleet, Gateway, ctl, fleet, free_port, running

PACE = ("--model", "shared:1", "--tokens", "5", "--token-delay", "10ms")
CLIENTS = 4


def chat(port: int, key: str) -> int:
    """Run a chat to its end; return its status."""
    body = {"model": "shared:1", "messages": [{"role": "user", "content": "hi"}]}
    ask = urllib.request.Request(
        f"http://127.0.0.1:{port}/api/chat",
        json.dumps(body).encode(),
        {"Authorization": f"Bearer {key}"},
    )
    with urllib.request.urlopen(ask, timeout=PATIENCE) as response:  # noqa: S310 - our own server
        response.read()
        return int(response.status)


def spent_in(archive: Path, directory: Path) -> int:
    """Return the tokens of the only key, as a backup has them."""
    directory.mkdir()
    extract(archive, directory, lambda *_: None)
    content = read_file(directory / "budgets-0.db")
    assert content is not None
    return sum(content.spent.values())


def back_up_under_load(started: Fleet, key: str, archive: Path) -> None:
    """Make a backup while clients chat, each to the end of its chat."""
    is_done, have_begun = threading.Event(), threading.Barrier(CLIENTS + 1)

    def visit() -> None:
        chat(started.port, key)
        have_begun.wait(PATIENCE)
        while not is_done.is_set():
            assert chat(started.port, key) == 200

    with ThreadPoolExecutor(CLIENTS) as clients:
        visits = [clients.submit(visit) for _ in range(CLIENTS)]
        have_begun.wait(PATIENCE)
        made = started.ctl("backup", str(archive))
        is_done.set()
        for one in visits:
            one.result()
    assert made.returncode == 0, made.stderr


def test_a_backup_under_load_is_restored_elsewhere(tmp_path: Path) -> None:
    """Keys work, the chain holds, and budgets are as spent as the backup says."""
    archive = tmp_path / "b.tar"
    with fleet(tmp_path / "data", {"a": PACE}) as started:
        key, text = started.create_key("metered", KeyLimits(tokens_per_day=10**9))
        back_up_under_load(started, text, archive)
        elsewhere = {
            **started.environment,
            "GATEWAY_STORAGE_DATA_DIR": str(tmp_path / "new"),
            "GATEWAY_SERVER_BIND": f"127.0.0.1:{free_port()}",
            "GATEWAY_SERVER_ADMIN_BIND": f"127.0.0.1:{free_port()}",
        }
        assert ctl("restore", str(archive), "--yes", environment=elsewhere).returncode == 0
        with running("ollama_gateway", "serve", environment=elsewhere) as process:
            process.wait_for("serving")
            gateway = Gateway(process, elsewhere)
            spent = gateway.used(key.id)["day"]
            assert chat(gateway.port, text) == 200

    assert spent == spent_in(archive, tmp_path / "extracted") > 0
    assert ctl("audit", "verify", environment=elsewhere).returncode == 0
