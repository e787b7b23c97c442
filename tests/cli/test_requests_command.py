"""`gatewayctl requests`, run in this process, with something on the admin address or nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ollama_gateway.cli.requests import age_of
from tests.keys.admin_listener import AdminListener, admin_listener
from tests.support.commands import alone, as_json, failed, ran, run

PATH = "/admin/v1/requests"
ID = "8dd6811f040f4f18a339654823d83992"
ONE: dict[str, Any] = {
    "id": ID,
    "key_id": "fmja3f7x",
    "key_name": "alice",
    "end_user": None,
    "client": "127.0.0.1",
    "endpoint": "/api/chat",
    "model": "llama3.2:3b",
    "alias": None,
    "backend": "gpu-1",
    "stage": "streaming",
    "age_s": 75.24,
    "tokens": 812,
    "process": None,
}


@pytest.fixture
def listener(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[AdminListener]:
    """Run a listener on the admin address of the settings."""
    alone(monkeypatch, tmp_path, tmp_path / "data")
    with admin_listener() as listener:
        monkeypatch.setenv("GATEWAY_SERVER_ADMIN_BIND", f"127.0.0.1:{listener.port}")
        yield listener


def page(*items: object, following: str | None = None, **more: object) -> dict[str, object]:
    """Return a page of a list."""
    return {"items": items, "next": following, "unanswered": [], **more}


def test_a_list(listener: AdminListener) -> None:
    """A line has all that an operator looks for; JSON is an array of all that is known."""
    listener.says(f"{PATH}?limit=200", page(ONE))
    wide = ran("requests", "list")

    columns = ["age", "key", "end user", "model", "stage", "backend", "tokens", "endpoint"]
    assert wide.splitlines()[0].split() == " ".join([*columns, "client", "request"]).split()
    assert as_json("requests", "list") == [ONE]


def test_a_list_of_several_pages(listener: AdminListener) -> None:
    """All pages are one array; a process that does not answer is named on stderr."""
    second = {**ONE, "id": "f" * 32}
    listener.says(f"{PATH}?limit=200&key=a+b&model=m%2F1", page(ONE, following="c/1"))
    listener.says(
        f"{PATH}?limit=200&key=a+b&model=m%2F1&cursor=c%2F1", page(second, unanswered=[1])
    )
    listed = run("requests", "list", "--key", "a b", "--model", "m/1", "--json")

    assert json.loads(listed.stdout) == [ONE, second]
    assert listed.stderr.endswith("process 1 does not answer: its requests are missing\n")


@pytest.mark.parametrize(
    "answer",
    [{}, {"items": None}, {"items": ["x"]}, {"items": [{**ONE, "id": 1}]}, {"items": [{}]}],
)
def test_what_no_gateway_says(listener: AdminListener, answer: object) -> None:
    """Another program on the address is no empty list."""
    listener.says(f"{PATH}?limit=200", answer)
    assert failed("requests", "list").endswith("is no gateway of this version")


def test_without_a_gateway(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command says what it asked."""
    alone(monkeypatch, tmp_path, tmp_path / "data")
    monkeypatch.setenv("GATEWAY_SERVER_ADMIN_BIND", "127.0.0.1:1")
    line = "no gateway answers at 127.0.0.1:1: is it running?"
    assert failed("requests", "list") == line
    assert failed("requests", "cancel", ID) == line


def test_one_is_cancelled(listener: AdminListener) -> None:
    """A line says so."""
    listener.says(f"{PATH}/{ID}", ONE)
    assert ran("requests", "cancel", ID) == f'request "{ID}" is cancelled\n'
    assert as_json("requests", "cancel", ID) == [ONE]


def test_a_cancel_that_is_refused(listener: AdminListener) -> None:
    """The gateway's words are printed, whatever characters they have."""
    listener.says(f"{PATH}/{ID}", {"detail": "not\x1b[2J now"}, status=404)
    refused = failed("requests", "cancel", ID)
    assert refused == 'gatewayctl requests: "not\\u001b[2J now"'


def test_all_of_a_key_are_cancelled(listener: AdminListener) -> None:
    """Without `--yes` a script cancels nothing."""
    listener.says(f"{PATH}?limit=200&key=alice", page(ONE))
    listener.says(f"{PATH}?key=fmja3f7x", {"key_id": "fmja3f7x", "cancelled": [ID, "b"]})
    asked = failed("requests", "cancel", "--key", "alice", code=2)
    before = list(listener.asked)
    done = ran("requests", "cancel", "--key", "alice", "--yes")

    assert asked.startswith("Cancel 1 request of key alice? No terminal")
    assert [path for path, _ in before] == [f"{PATH}?limit=200&key=alice"]
    assert done == '2 requests of "alice" cancelled\n'


def test_a_key_without_requests(listener: AdminListener) -> None:
    """There is nothing to ask, and nothing to cancel."""
    listener.says(f"{PATH}?limit=200&key=alice", page())
    assert ran("requests", "cancel", "--key", "alice") == '0 requests of "alice" cancelled\n'


@pytest.mark.parametrize("given", [[], [ID, "--key", "alice"]])
def test_what_to_cancel_must_be_clear(listener: AdminListener, given: list[str]) -> None:
    """Either a request or a key."""
    failed("requests", "cancel", *given, code=2)
    assert listener.asked == []


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.04, "0.0 s"), (9.94, "9.9 s"), (75.24, "75 s"), (7200, "120 min")]
)
def test_ages(seconds: float, text: str) -> None:
    """Seconds, then minutes."""
    assert age_of(seconds) == text
