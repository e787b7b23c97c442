"""`audit list` and `usage` answer a mistyped filter, run in this process on real journals."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import pytest

from ollama_gateway.keys.sqlite import SQLiteKeys
from tests.ledger.audit_logs import ended, listed, ran, written
from tests.support.commands import run


@pytest.mark.parametrize(
    ("option", "value", "line"),
    [
        ("--key", "nam", 'no key "nam" is known (did you mean name?)'),
        ("--backend", "gpu1", 'no backend "gpu1" is known (did you mean gpu-1?)'),
        ("--reason", "ratte", 'no reason "ratte" is known (did you mean rate?)'),
        ("--model", "\x1b[2J", r'no model "\u001b[2J" is known'),
    ],
)
def test_a_mistyped_filter_is_answered(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch, option: str, value: str, line: str
) -> None:
    """A name that no settings, key, gateway or record has is exit code 1."""
    monkeypatch.setenv("OLLAMA_BACKENDS", "gpu-1=http://127.0.0.1:1")
    written(data_dir, [ended("a")])
    for more in ([], ["--json"], ["--follow"], ["--since", "1d"]):
        result = run("audit", "list", option, value, *more)

        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr == f"gatewayctl audit list: {line}\n"


def test_a_name_without_requests_is_no_mistake(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A backend of the settings, a reason of the program and a key of the store are known."""
    monkeypatch.setenv("OLLAMA_BACKENDS", "gpu-1=http://127.0.0.1:1")
    written(data_dir, [ended("a")])
    with closing(SQLiteKeys(data_dir / "keys.db")) as store:
        key, _ = store.create("new")

    for option in (("--backend", "gpu-1"), ("--reason", "rate"), ("--reason", "status_502")):
        assert listed(*option, "--key", "new") == listed(*option, "--key", key.id) == []


@pytest.fixture
def two_keys(data_dir: Path) -> None:
    """Write a request of each of two keys."""
    alice, bob = (
        ended(name, key_id=key_id, key_name=name)
        for name, key_id in (("alice", "k1"), ("bob", "k2"))
    )
    written(data_dir, [alice, bob])


@pytest.mark.parametrize(
    ("option", "value", "line"),
    [
        ("--key", "alise", 'no key "alise" is known (did you mean alice?)'),
        ("--key", "k1x", 'no key "k1x" is known (did you mean k1?)'),
        ("--model", "m1:lates", 'no model "m1:lates" is known (did you mean m1:latest?)'),
        ("--model", "other", 'no model "other" is known'),
    ],
)
def test_a_mistyped_name_in_usage_is_answered(
    two_keys: None, option: str, value: str, line: str
) -> None:
    """A name that is known nowhere is exit code 1, with the name that it resembles."""
    result = run("usage", option, value)

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == f"gatewayctl usage: {line}\n"


def test_a_known_name_without_requests_is_no_mistake(two_keys: None) -> None:
    """A name that other days have is known, in any spelling of a model."""
    nothing = ("--until", "2026-01-02", "--json")
    assert json.loads(ran("usage", "--key", "k2", *nothing)) == []
    assert json.loads(ran("usage", "--model", "M1", *nothing)) == []
