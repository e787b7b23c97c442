"""No text of a backend, a gateway, a file or a command line controls the terminal."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from ollama_gateway.__main__ import gatewayctl
from tests.keys.admin_listener import AdminListener, admin_listener

EVIL: Final = "\x1b]0;PWNED\x07\x1b[2J\x9b31m\u202e\u2066\u200f\u200bX\r"
"""A window title, a cleared screen, C1, bidirectional marks, hidden text, a carriage return."""


@pytest.fixture
def peer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[AdminListener]:
    """A server that is both backend and admin listener of the settings, with any answers."""
    with admin_listener() as listener:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("GATEWAY_STORAGE_DATA_DIR", str(tmp_path / "data"))
        monkeypatch.setenv("GATEWAY_SERVER_ADMIN_BIND", f"127.0.0.1:{listener.port}")
        monkeypatch.setenv("OLLAMA_BACKENDS", f"a=http://127.0.0.1:{listener.port}")
        model = {"name": f"m{EVIL}", "model": "m:1", "digest": EVIL}
        backend = {"name": "a", "priority": 1, "slots": 0, "paused": False, "up": True}
        figures = {"in_flight": 0, "models": 1, "loaded": 0, "version": EVIL}
        listener.says("/api/version", {"version": EVIL})
        listener.says("/api/tags", {"models": [model, {**model, "name": EVIL, "model": EVIL}]})
        listener.says("/api/ps", {"models": [model]})
        listener.says("/healthz", {"alive": True})
        listener.says("/readyz", {"ready": False, "reasons": [EVIL], "degraded": [EVIL]})
        both = [{**backend, **figures}, {**backend, **figures, "name": EVIL}]
        listener.says("/status.json", {"backends": both})
        listener.says("/explain/bad", {"error": EVIL}, 400)
        why = {"warm": True, "breaker": EVIL, "first_chunk_ms": None, "why": EVIL, "order": EVIL}
        explained = {"candidates": [{**both[1], **why, "backend": EVIL}], "passed_over": []}
        listener.says("/explain/m", explained)
        yield listener


@pytest.mark.parametrize(
    "arguments",
    [
        ("probe",),
        ("probe", "--json"),
        ("models",),
        ("models", "--json"),
        ("init", "URL", "--output", f"a{EVIL}"),
        ("init", "URL", "--output", f"/no{EVIL}/a"),
        ("init", f"http://{EVIL}"),
        ("health",),
        ("health", "--json"),
        ("backends", "list"),
        ("backends", "list", "--json"),
        ("backends", "pause", EVIL),
        ("explain", "m"),
        ("explain", "m", "--json"),
        ("explain", "bad"),
        ("pull", "m", "--on", EVIL),
        ("keys", "show", EVIL),
        ("keys", "create", EVIL),
        ("keys", "create", "a", "--models", EVIL),
        ("keys", "import", EVIL),
        ("audit", "show", EVIL),
        ("audit", "list", "--since", EVIL),
        ("audit", "list", "--outcome", EVIL),
        ("usage", "--by", EVIL),
        ("config", "check", "--config", EVIL),
        (EVIL,),
        ("keys", EVIL),
        ("keys", "list", EVIL),
        ("keys", "list", f"--{EVIL}"),
    ],
)
def test_a_command_prints_text_alone(
    peer: AdminListener,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
) -> None:
    """Every line of stdout and stderr is printable, as text and as JSON."""
    url = f"http://127.0.0.1:{peer.port}"
    given = [url if argument == "URL" else argument for argument in arguments]
    gatewayctl(given)
    said = capfd.readouterr()

    lines = [line for text in said for line in text.split("\n")]
    assert [line for line in lines if not line.isprintable()] == []
    assert any(lines)
    if "--json" in arguments:
        json.loads(said.out)


def test_a_version_cannot_write_settings(
    peer: AdminListener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line break in a version does not start a new line of the file that `init` writes."""
    peer.says("/api/version", {"version": '1\n[server]\nadmin_token = "mine"\n'})
    gatewayctl(["init", f"http://127.0.0.1:{peer.port}"])

    lines = (tmp_path / "gateway.toml").read_text().split("\n")
    assert not any(line.startswith("admin_token") for line in lines)
