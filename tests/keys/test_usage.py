"""`gatewayctl keys show` with a gateway, or something else, on the admin address."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from ollama_gateway.cli import health_command
from tests.keys.admin_listener import AdminListener, admin_listener, http
from tests.keys.commands import as_json, ran, run

RATE = {"limit": 60, "used": 3, "left": 57, "reset_s": 41.2}
LIMITS = {
    "rate": RATE,
    "concurrency": {"limit": 4, "used": 2, "left": 2, "reset_s": 0},
    "day": {"limit": 100_000, "used": 1200, "left": 98_800, "reset_s": 18_720.0},
    "month": {"limit": 5_000_000, "used": 6_000_000, "left": 0, "reset_s": 1_000_000.5},
}


@pytest.fixture
def listener(data_dir: object, monkeypatch: pytest.MonkeyPatch) -> Iterator[AdminListener]:
    """A listener on the admin address of the settings."""
    with admin_listener() as listener:
        monkeypatch.setenv("GATEWAY_SERVER_ADMIN_BIND", f"127.0.0.1:{listener.port}")
        yield listener


@pytest.fixture
def key_id(data_dir: object) -> str:
    """The id of the key `ci`."""
    return str(as_json("create", "ci", "--requests-per-minute", "60")["id"])


def answer(key_id: str, **changed: object) -> dict[str, Any]:
    """A gateway's answer about a key."""
    return {"key_id": key_id, "store": "memory", "limits": {"rate": RATE}, **changed}


def used_of(*arguments: str) -> list[str]:
    """Return the lines of `show` after those of the key itself."""
    lines = ran("show", *arguments).splitlines()
    return lines[lines.index("revoked_at: -") + 1 :]


def test_show_says_what_is_used(listener: AdminListener, key_id: str) -> None:
    """Each limit in force is one line, the key's own or the default, in a fixed order."""
    listener.says(f"/limits/{key_id}", answer(key_id, limits=dict(reversed(LIMITS.items()))))
    assert used_of("ci") == [
        "requests:          3 of 60 in the last minute, 57 left",
        "at once:           2 of 4 now, 2 left",
        "tokens today:      1,200 of 100,000, 98,800 left, resets in 5 h 12 min",
        "tokens this month: 6,000,000 of 5,000,000, 0 left, resets in 11 d 14 h",
    ]


def test_show_says_what_is_used_as_json(listener: AdminListener, key_id: str) -> None:
    """The gateway's figures stand beside the key's own limits."""
    listener.says(f"/limits/{key_id}", answer(key_id, limits=LIMITS, store="redis"))
    shown = as_json("show", "ci")
    assert shown["usage"] == LIMITS
    assert shown["limits"]["requests_per_minute"] == 60
    assert listener.asked == [(f"/limits/{key_id}", None)]


def test_where_nothing_is_limited_it_says_so(listener: AdminListener, key_id: str) -> None:
    """An answer without limits is valid."""
    listener.says(f"/limits/{key_id}", answer(key_id, limits={}))
    assert used_of("ci") == ["usage:      no limit is in force"]
    assert as_json("show", "ci")["usage"] == {}
    assert len(run("show", "ci").stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("reset_s", "text"),
    [
        (0, "0 s"),
        (0.2, "1 s"),
        (59.0, "59 s"),
        (59.5, "1 min"),
        (61, "1 min 1 s"),
        (3599.5, "1 h"),
        (3600, "1 h"),
        (18_661, "5 h 12 min"),
        (86_400, "1 d"),
        (2_678_400, "31 d"),
    ],
)
def test_a_reset_is_told_in_two_units(
    listener: AdminListener, key_id: str, reset_s: float, text: str
) -> None:
    """Resets are rounded up, so no client comes too early."""
    day = {"limit": 1, "used": 1, "left": 0, "reset_s": reset_s}
    listener.says(f"/limits/{key_id}", answer(key_id, limits={"day": day}))
    assert used_of("ci") == [f"tokens today:      1 of 1, 0 left, resets in {text}"]


def test_the_admin_token_is_shown(
    listener: AdminListener, key_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gateway that requires its token gets it, and it is not printed."""
    monkeypatch.setenv("GATEWAY_SERVER_ADMIN_TOKEN", "hush-0123456789abcdef")
    listener.says(f"/limits/{key_id}", answer(key_id))
    result = run("show", "ci")
    assert listener.asked == [(f"/limits/{key_id}", "Bearer hush-0123456789abcdef")]
    assert "3 of 60" in result.stdout
    assert "hush" not in result.output


def check_not_known(address: str) -> None:
    """`show` prints the key alone, says in one line that its usage is unknown, and exits 0."""
    people, programs = run("show", "ci"), run("show", "ci", "--json")
    for result in (people, programs):
        assert (result.exit_code, result.exception) == (0, None)
        (_store, line) = result.stderr.splitlines()
        assert line == f"usage is unknown: no gateway answers on {address}"
    assert people.stdout.splitlines()[-1] == "revoked_at: -"
    shown = json.loads(programs.stdout)
    assert (shown["usage"], shown["limits"]["requests_per_minute"]) == (None, 60)


@pytest.mark.usefixtures("key_id")
def test_where_nobody_listens_the_usage_is_not_known() -> None:
    """The line names the address of the settings."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("GATEWAY_SERVER_ADMIN_BIND", address)
            check_not_known(address)


@pytest.mark.usefixtures("key_id")
def test_who_says_nothing_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A listener that accepts and never answers has the whole of `ANSWER_SECONDS`, and no more."""
    monkeypatch.setattr("ollama_gateway.cli.admin.ANSWER_SECONDS", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        monkeypatch.setenv("GATEWAY_SERVER_ADMIN_BIND", address)
        check_not_known(address)


KEY_ID = "kkkkkkkk"
"""Stands for the key's own id."""
SENT = [
    b"",
    b"SSH-2.0-OpenSSH_9.6\r\n",
    b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{}",
    b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 100_000,
    http(b""),
    http(b"hello"),
    http(b"\xff\xfe{}"),
    http(b"null"),
    http(b"[]"),
    http(b"{}"),
    http(b"[" * 100_000),
    http(b'{"limits": ' * 100_000),
    http(b"1" * 5000),
    http(b"{}", headers="content-encoding: gzip\r\n"),
    http(b"{}", 302, "location: http://127.0.0.1:1/\r\n"),
    http(b" " * 2**20 + json.dumps(answer(KEY_ID)).encode()),
    http(json.dumps(answer("bbbbbbbb")).encode()),
    *(http(json.dumps(answer(KEY_ID)).encode(), status) for status in (400, 401, 404, 500, 503)),
]
"""No HTTP, no JSON, no object, too much, another key's usage, or a refusal."""
ODD = (None, "3", "\x1b[2J", True, -1, 2**64, [3], float("nan"), float("inf"))
SHAPES: list[Any] = [
    None,
    [],
    "rate",
    {"rate": None},
    {"rate": []},
    {"rate": {}},
    {"rate": RATE, "\x1b[2J": RATE},
    *({"rate": {k: value for k, value in RATE.items() if k != missing}} for missing in RATE),
    *({"rate": {**RATE, name: odd}} for name in RATE for odd in ODD),
    {"rate": {**RATE, "used": 3.5}},
]
"""Limits of another shape: every figure is checked before one of them is shown."""


@pytest.mark.parametrize(
    "sent",
    [*SENT, *(http(json.dumps(answer(KEY_ID, limits=shape)).encode()) for shape in SHAPES)],
    ids=lambda sent: sent[-40:].decode("latin-1"),
)
def test_what_is_no_answer_of_a_gateway_is_none(
    listener: AdminListener, key_id: str, sent: bytes
) -> None:
    """An answer that no gateway gives about this key leaves no trace, and none of it is shown."""
    listener.answers[f"/limits/{key_id}"] = sent.replace(KEY_ID.encode(), key_id.encode())
    check_not_known(f"127.0.0.1:{listener.port}")


def test_a_field_that_is_not_known_is_no_harm(listener: AdminListener, key_id: str) -> None:
    """Unknown fields of a newer gateway are left out."""
    listener.says(f"/limits/{key_id}", answer(key_id, limits={"rate": {**RATE, "x": 1}}, y=2))
    assert as_json("show", "ci")["usage"] == {"rate": RATE}


HEALTH = typer.Typer()
HEALTH.command()(health_command.health)


@pytest.mark.parametrize(
    ("readiness", "status", "alive", "is_ready"),
    [
        ({"ready": True, "reasons": []}, 200, "ready", True),
        ({"ready": False, "reasons": ["draining"]}, 503, "not ready: draining", False),
        ({"ready": True, "reasons": [], "degraded": ["x", "y"]}, 200, "ready, x; y\n", True),
        (
            {"ready": False, "reasons": ["r"], "degraded": ["x"]},
            503,
            "not ready: r\ndegraded: x\n",
            False,
        ),
        ({"ready": True, "reasons": [], "degraded": [1]}, 200, "not ready: readiness", False),
        ({"error": "x"}, 401, "not ready: readiness is unknown: /readyz answered 401", False),
        ({"ready": 1, "reasons": 2}, 200, "not ready: readiness is unknown", False),
        ({"ready": False, "reasons": [3]}, 200, "not ready: readiness is unknown", False),
    ],
)
def test_health_asks_the_same_way(
    listener: AdminListener, readiness: object, status: int, alive: str, *, is_ready: bool
) -> None:
    """A gateway that is alive is so whatever it says of its readiness, and that is checked."""
    listener.says("/healthz", {"alive": True})
    listener.says("/readyz", readiness, status)
    plain, strict = CliRunner().invoke(HEALTH), CliRunner().invoke(HEALTH, "--ready")
    assert plain.stdout.startswith(alive)
    assert (plain.exit_code, strict.exit_code) == (0, 0 if is_ready else 1)
    told = json.loads(CliRunner().invoke(HEALTH, "--json").stdout)
    assert (told["alive"], told["ready"]) == (True, is_ready)


@pytest.mark.parametrize("sent", [http(b"{}", 500), http(b"hello"), b""])
def test_health_of_something_else_is_not_running(listener: AdminListener, sent: bytes) -> None:
    """A listener that does not answer like a gateway is not running."""
    listener.answers["/healthz"] = sent
    result = CliRunner().invoke(HEALTH)
    address = f"127.0.0.1:{listener.port}"
    assert (result.exit_code, result.stdout) == (
        1,
        f"not running: nothing answers on {address}\n",
    )
