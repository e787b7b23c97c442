"""`gatewayctl limits` with a gateway, or something else, on the admin address."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.keys.admin_listener import AdminListener, admin_listener
from tests.support.commands import as_json, failed, ran, run

TOKEN = "0123456789abcdef0123456789abcdef"
DAY = {"limit": 1000, "used": 900, "left": 100, "reset_s": 60.0}
PAGE = "/admin/v1/limits?limit=1000"
RESET = "/admin/v1/limits/k1/reset"


def standing(key_id: str, name: str, **changed: object) -> dict[str, Any]:
    """A gateway's answer about a key."""
    found = {"key_id": key_id, "key_name": name, "nearest": "day", "share": 0.9}
    return {**found, "limits": {"day": DAY}, **changed}


@pytest.fixture
def listener(data_dir: object, monkeypatch: pytest.MonkeyPatch) -> Iterator[AdminListener]:
    """A listener on the admin address of the settings, that knows two keys."""
    with admin_listener() as listener:
        monkeypatch.setenv("GATEWAY_SERVER_ADMIN_BIND", f"127.0.0.1:{listener.port}")
        monkeypatch.setenv("GATEWAY_SERVER_ADMIN_TOKEN", TOKEN)
        listener.says(PAGE, {"items": [standing("k1", "alice")], "next": "more"})
        rest = [standing("k2", "\x1b[31mbob", share=None, limits={})]
        listener.says(f"{PAGE}&cursor=more", {"items": rest, "next": None})
        listener.says(RESET, {**standing("k1", "alice"), "is_on_disk": True})
        yield listener


def test_all_pages_are_listed(listener: AdminListener) -> None:
    """One line for each key, in the gateway's order; JSON has it as the gateway said it."""
    head, first, second = ran("limits", "list").splitlines()
    assert head.split()[:3] == ["key", "name", "used"]
    assert first.split() == ["k1", "alice", "90%", "-", "-", "900", "of", "1,000", "-"]
    assert "\x1b" not in second
    assert [one["key_id"] for one in as_json("limits", "list")] == ["k1", "k2"]
    assert listener.asked[0] == (PAGE, f"Bearer {TOKEN}")


@pytest.mark.parametrize("key", ["k1", "alice"])
def test_a_key_is_reset_with_a_reason(listener: AdminListener, key: str) -> None:
    """By its id or its name; the reason goes into the audit log."""
    said = ran("limits", "reset", key, "--reason", "paid again", "--limit", "day")
    assert said == "key k1: day set back to zero\n"
    assert json.loads(listener.sent[-1]) == {"reason": "paid again", "limits": ["day"]}
    assert as_json("limits", "reset", key, "--reason", "x")["is_on_disk"] is True
    assert json.loads(listener.sent[-1])["limits"] == ["rate", "day", "month"]


def test_what_is_wrong_is_one_line(listener: AdminListener) -> None:
    """An unknown key, a limit that cannot be reset, a refusal, and no gateway."""
    reset = ("limits", "reset", "k1", "--reason", "x")
    assert "no active key 'eve'" in failed("limits", "reset", "eve", "--reason", "x")
    assert failed(*reset, "--limit", "concurrency", code=2)
    listener.says(RESET, {"detail": "a token is needed"}, status=401)
    assert failed(*reset) == "gatewayctl limits: a token is needed"
    wrong: list[object] = [{"items": [{"key_id": 5}]}, {"items": {}}, {}, {"items": [None]}]
    for answer in wrong:
        listener.says(PAGE, answer)
        assert "no gateway answers on" in failed("limits", "list")


def test_a_reset_that_is_not_on_the_disk_is_told(listener: AdminListener) -> None:
    """A restart may undo it."""
    listener.says(RESET, {**standing("k1", "alice"), "is_on_disk": False})
    result = run("limits", "reset", "k1", "--reason", "x")
    assert result.exit_code == 0
    assert "a restart may undo it" in result.stderr
