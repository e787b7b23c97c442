"""What commands print on a real terminal, and not in a pipe."""

from __future__ import annotations

import os
import pty
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from ollama_gateway.__main__ import gatewayctl
from ollama_gateway.cli.output import count_of, human_size
from ollama_gateway.keys.sqlite import SQLiteKeys
from tests.keys.admin_listener import AdminListener, admin_listener
from tests.ledger.audit_logs import ended, written

MODEL = "hf.co/unsloth/Qwen3-Coder-30B-A3B-Instruct-GGUF:Q4_K_M"
URL = "https://ollama-07.eu-central-1.compute.example:443/team/inference"
IPV6 = "http://[2001:db8:85a3:8d3:1319:8a2e:370:7348]:11434"
BACKEND = "gpu-rack-4.dc-frankfurt.example.internal"
KEY = "東京チーム-推論"
REQUEST = "3df5e28d328f728674f519078363844b"
SETTINGS = """
[server]
bind = "127.0.0.1:{port}"
admin_bind = "127.0.0.1:{admin}"
[storage]
data_dir = "{directory}"
[[backends]]
name = "{backend}"
url = "{url}"
[[backends]]
name = "v6"
url = "{ipv6}"
"""
Run = Callable[..., str]


@pytest.fixture
def peer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[AdminListener]:
    """Settings, a key and a record with long names, and a listener in place of the gateway."""
    with admin_listener() as listener, socket.create_server(("127.0.0.1", 0)) as clients:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("PORT", str(clients.getsockname()[1]))
        ports = {"port": os.environ["PORT"], "admin": listener.port}
        places = {"directory": tmp_path, "backend": BACKEND, "url": URL, "ipv6": IPV6}
        Path("gateway.toml").write_text(SETTINGS.format(**ports, **places))
        tokens: dict[str, Any] = {"prompt_tokens": 11, "completion_tokens": 30}
        facts: dict[str, Any] = {"key_name": KEY, "model": MODEL, "backend": BACKEND, **tokens}
        written(tmp_path, [ended(REQUEST, end_user="erika@example.com", **facts)])
        with closing(SQLiteKeys(tmp_path / "keys.db")) as store:
            store.create(KEY, models=(MODEL, "llama3*"))
        state = {"up": True, "paused": False, "warm": True, "breaker": "closed", "slots": 4}
        figures = {"priority": 1, "in_flight": 0, "first_chunk_ms": 104}
        why = "priority 1, warm, 0 of 4 slots busy, loaded with other options"
        candidate = {"backend": BACKEND, **state, **figures, "why": why, "order": 1}
        listener.says(f"/explain/{MODEL.replace('/', '%2F').replace(':', '%3A')}", {
            "candidates": [candidate], "passed_over": [],
        })  # fmt: skip
        yield listener


@pytest.fixture
def terminal(peer: AdminListener, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command whose stdout and stderr are a terminal; return all that it prints."""

    def run(*arguments: str, columns: int = 80) -> str:
        ours, theirs = pty.openpty()
        shown: list[bytes] = []
        reader = threading.Thread(target=lambda: shown.extend(_read(ours)))
        reader.start()
        with monkeypatch.context() as patch, os.fdopen(theirs, "w") as out:
            patch.setattr("sys.stdout", out)
            patch.setattr("sys.stderr", out)
            patch.setenv("COLUMNS", str(columns))
            gatewayctl(arguments)
        reader.join()
        os.close(ours)
        return b"".join(shown).decode().replace("\r\n", "\n")

    return run


def _read(terminal: int) -> Iterator[bytes]:
    """Yield what comes until the other side is closed, which Linux reports as an error."""
    while True:
        try:
            yield os.read(terminal, 65536)
        except OSError:
            return


@pytest.mark.parametrize("columns", [60, 80, 100, 140])
@pytest.mark.parametrize(
    ("arguments", "whole"),
    [
        (["keys", "list"], [KEY]),
        (["backends", "list"], [BACKEND, URL, IPV6]),
        (["audit", "list"], [KEY, MODEL, REQUEST]),
        (["audit", "show", REQUEST], [KEY, MODEL, REQUEST, BACKEND]),
        (["usage", "--by", "model"], [MODEL, "41"]),
        (["explain", MODEL], [BACKEND]),
        (["config", "show"], [BACKEND, URL, IPV6]),
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value, list) else None,
)
def test_names_and_urls_stand_whole(
    terminal: Run, columns: int, arguments: list[str], whole: list[str]
) -> None:
    """At each width every id, name and URL is in one piece, and there are no boxes."""
    shown = terminal(*arguments, columns=columns)

    lines = re.sub("\x1b\\[[0-9;]*m", "", shown).split("\n")
    assert not re.search("[│┃━…]", shown)
    for text in whole:
        assert any(text in line for line in lines), shown


def test_columns_that_are_left_out_are_named(terminal: Run) -> None:
    """A narrow table says which columns are missing; `--wide` prints them."""
    narrow = terminal("usage", columns=60)
    wide = terminal("usage", "--wide", columns=60)

    assert "--wide shows all)" in narrow
    assert "estimated" not in narrow.split("(not shown")[0]
    assert "estimated" in wide.splitlines()[0]
    assert "--wide" not in wide


def test_a_new_key_comes_with_its_next_step(terminal: Run) -> None:
    """Commands to paste follow a new key: a request if a gateway listens, else its start."""
    made = terminal("keys", "create", "alice", columns=200)
    key = re.search(r"ogw_\S+", made)
    Path("other.toml").write_text('[server]\nbind = "127.0.0.1:1"\n[storage]\ndata_dir = "d"\n')
    before = terminal("keys", "create", "alice", "--config", "other.toml", columns=200)

    assert key is not None
    url = f"http://127.0.0.1:{os.environ['PORT']}"
    assert f"next: curl {url}/api/tags -H 'Authorization: Bearer {key[0]}'\n" in made
    assert f"next: OLLAMA_HOST={url}/k/{key[0]} ollama run MODEL\n" in made
    assert f"next: gatewayctl serve --config {Path.cwd() / 'other.toml'}\n" in before
    assert "next:" not in terminal("keys", "create", "bob", "--json")


@pytest.mark.parametrize(
    ("size", "shown"),
    [
        (None, "-"),
        (0, "0 MB"),
        (397_000_000, "397 MB"),
        (2_019_393_189, "2.0 GB"),
        (404_000_000_000, "404.0 GB"),
    ],
)
def test_sizes_are_those_of_ollama_list(size: int | None, shown: str) -> None:
    """Sizes are in decimal units."""
    assert human_size(size) == shown


def test_a_count_has_its_grammar() -> None:
    """One is singular."""
    assert [count_of(count, "model") for count in (0, 1, 1000)] == [
        "0 models",
        "1 model",
        "1,000 models",
    ]
