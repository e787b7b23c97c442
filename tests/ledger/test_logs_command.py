"""`gatewayctl logs`: the stream of requests that end."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from functools import partial
from itertools import count
from pathlib import Path

import pytest

from ollama_gateway.ledger.postgres import AuditTable
from ollama_gateway.ledger.recording_changes import LocalChanges
from tests.ledger.audit_logs import ended, move, ran, still_open, written
from tests.ledger.records import CHANGE, KEY
from tests.support.commands import failed, run
from tests.support.patience import PATIENCE

MONTH = 31 * 86_400


def ids_of(*arguments: str) -> list[str]:
    """Return the request ids that `logs --json` prints."""
    return [
        json.loads(line)["request_id"] for line in ran("logs", "--json", *arguments).splitlines()
    ]


Act = Callable[[], object]


def in_turn(*acts: Act) -> Act:
    """Return an act that does several."""

    def act() -> None:
        for one in acts:
            one()

    return act


def at_each_look(monkeypatch: pytest.MonkeyPatch, *events: Act) -> None:
    """Let an event happen before each look for new records; after the last, Ctrl-C is pressed."""
    looks = count()

    def wait(stopped: threading.Event, _seconds: float) -> bool:
        number = next(looks)
        if number < len(events):
            events[number]()
        else:
            signal.raise_signal(signal.SIGINT)
        return stopped.is_set()

    monkeypatch.setattr("threading.Event.wait", wait)


def test_the_last_requests_are_shown(data_dir: Path) -> None:
    """Ten without a number, as `tail` does; a change is no request."""
    written(data_dir, [ended(f"r{number}", number) for number in range(20)])
    with LocalChanges(data_dir, KEY).making(CHANGE):
        pass

    assert ids_of() == [f"r{number}" for number in range(10, 20)]
    assert ids_of("-n", "2", "--key", "name") == ["r18", "r19"]
    assert ran("logs", "-n", "1").splitlines()[1].endswith("r19")
    assert failed("logs", "--model", "nothing").startswith("gatewayctl logs: no model")


def test_following_survives_all_that_journals_do(
    data_dir: Path, shared: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Retention, new journals, new months and the way to PostgreSQL lose and double nothing."""
    with (
        closing(still_open(data_dir, ended("old"))) as living,
        closing(AuditTable(shared)) as table,
    ):
        at_each_look(
            monkeypatch,
            partial(living.commit, [ended("a", 1)]),
            in_turn(partial(living.commit, [ended("b", 2)]), partial(move, living, table)),
            partial(written, data_dir, [ended("c", 3)]),
            in_turn(partial(move, living, table), partial(living.commit, [ended("d", MONTH)])),
            partial(living.commit, [ended("other", MONTH, key_name="x", key_id="y")]),
            in_turn(partial(move, living, table), partial(living.commit, [ended("e", MONTH + 1)])),
        )
        assert ids_of("--follow", "-n", "0", "--key", "name") == ["a", "b", "c", "d", "e"]


def test_the_oldest_records_go_while_they_are_followed(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Retention on this machine alone cuts the journal behind the reader."""
    with closing(still_open(data_dir, ended("old"))) as living:
        at_each_look(
            monkeypatch,
            in_turn(partial(living.commit, [ended("a")]), partial(living.trim, 4e9)),
            partial(living.commit, [ended("b")]),
        )
        assert ids_of("--follow", "-n", "1") == ["old", "b"]


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_without_a_trace(data_dir: Path, sent: signal.Signals) -> None:
    """Whatever it waits for; all that it has printed stays."""
    written(data_dir, [ended("a")])
    command = [sys.executable, "-m", "ollama_gateway", "logs", "--follow", "--json"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        assert running.stdout is not None
        assert json.loads(running.stdout.readline())["request_id"] == "a"
        running.send_signal(sent)
        assert running.communicate(timeout=PATIENCE) == ("", "")
        assert running.returncode == 0


def test_without_journals_it_says_so(data_dir: Path) -> None:
    """The directory is named, as it may be the wrong one."""
    result = run("logs")
    assert f"gatewayctl logs: there are no journals in {data_dir}" in result.stderr
