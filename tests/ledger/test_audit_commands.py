"""`gatewayctl audit list` and `show`, run in this process on real journals."""

from __future__ import annotations

import json
import re
import signal
import threading
from contextlib import closing
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from ollama_gateway.ledger.attempted import Attempt
from ollama_gateway.reasons import StatusReason, reason_of
from tests.ledger.audit_logs import (
    ESCAPE,
    began,
    changed,
    ended,
    ids_of,
    listed,
    ran,
    still_open,
    written,
)
from tests.ledger.records import BEGAN
from tests.support.commands import run
from tests.support.spoilt import GARBAGE

FIELDS = (
    *("request_id", "started_at", "key_id", "key_name", "end_user", "client", "endpoint"),
    *("dialect", "model", "alias", "backend", "outcome", "reason", "status", "prompt_tokens"),
    *("cached_tokens", "completion_tokens", "tokens_source", "spender", "affinity", "ttft_ms"),
    *("duration_ms", "bytes_in", "bytes_out", "changed", "client_request_id", "trace_id"),
    "attempts",
)


def test_a_record_as_json(data_dir: Path) -> None:
    """A line has one object with every field; times are in UTC with a Z."""
    written(data_dir, [ended("a", prompt_tokens=3)], [ended("b", 1)])
    [first, second] = listed()

    assert tuple(first) == FIELDS
    assert (first["request_id"], first["prompt_tokens"]) == ("a", 3)
    assert first["started_at"] == "2026-01-02T03:04:05.000000Z"
    assert second["request_id"] == "b"


def test_a_record_for_people(data_dir: Path) -> None:
    """A header and one line per record are printed; estimates are marked."""
    tokens: dict[str, Any] = {
        "prompt_tokens": 11,
        "completion_tokens": 3,
        "tokens_source": "counted",
    }
    written(data_dir, [ended("abc", backend="gpu-1", ttft=0.25, took=1234, **tokens)])
    head, line = ran("audit", "list").splitlines()

    assert re.split("  +", head)[:4] == ["began", "key", "end user", "model"]
    assert line.split("  ")[0] == "2026-01-02T03:04:05Z"
    for said in ("m1:latest", "gpu-1", "completed", "~11+3", "250 ms", "1,234,000 ms"):
        assert said in line
    assert line.endswith("abc")


def test_the_filters(data_dir: Path) -> None:
    """Each filter works by itself and with others."""
    written(
        data_dir,
        [
            ended("a", 0, key_name="alice", backend="x"),
            ended("b", 60, outcome="refused", reason="rate", end_user="eve"),
            ended("c", 120, endpoint="/api/embed", model="m2:8b"),
        ],
    )

    assert ids_of("--key", "alice") == ["a"]
    assert ids_of("--backend", "x") == ["a"]
    assert ids_of("--outcome", "refused") == ids_of("--reason", "rate") == ["b"]
    assert ids_of("--end-user", "eve") == ["b"]
    assert ids_of("--endpoint", "/api/embed") == ids_of("--model", "M2:8b") == ["c"]
    assert ids_of("--since", "2026-01-02T03:05:05Z") == ["b", "c"]
    assert ids_of("--until", "2026-01-02T05:05:05+02:00", "--key", "name") == []
    assert ids_of("--since", "2026-01-02", "--until", "2026-01-03") == ["a", "b", "c"]
    assert ids_of("--key", "name", "--outcome", "completed") == ["c"]


def test_a_duration_goes_back_from_now(data_dir: Path) -> None:
    """`7d` means the last seven days."""
    days = (datetime.now(UTC) - BEGAN).total_seconds() / 86_400
    ages = {"old": 9, "new": 3}
    written(data_dir, [ended(name, 86_400 * (days - age)) for name, age in ages.items()])

    assert ids_of("--since", "7d") == ["new"]
    assert ids_of("--until", "7d") == ["old"]
    assert ids_of("--since", "7d", "--until", "12h") == ["new"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("--since", "yesterday"),
        ("--since", "2026-01-02T03:04:05"),
        ("--since", "2026-13-02"),
        ("--since", "0001-01-01T00:00:00+14:00"),
        ("--until", ""),
        ("--since", "2026-01-02", "--until", "2026-01-01"),
        ("--outcome", "done"),
        ("--limit", "-1"),
    ],
)
def test_what_is_wrong_on_the_command_line(data_dir: Path, arguments: tuple[str, ...]) -> None:
    """An invalid value makes exit 2, and the option is named."""
    result = run("audit", "list", *arguments)

    assert result.exit_code == 2
    assert arguments[-2] in result.stderr


def test_a_limit_keeps_the_newest(data_dir: Path) -> None:
    """The newest wanted records are listed, in the same order."""
    written(data_dir, [ended(f"a{n}", 2 * n) for n in range(5)], [ended("b", 5, backend="x")])

    assert ids_of("--limit", "3") == ["b", "a3", "a4"]
    assert ids_of("--limit", "1", "--backend", "x") == ["b"]
    assert ids_of("--limit", "0") == []
    assert len(ids_of("--limit", "99")) == 6


def test_what_still_runs_is_shown_where_asked(data_dir: Path) -> None:
    """Its outcome is null in JSON, and `running` in the table."""
    with closing(still_open(data_dir, began("r", 9), ended("a"))):
        assert ids_of() == ["a"]
        [_, running] = listed("--open", "--limit", "1")
        assert "running" in ran("audit", "list", "--open").splitlines()[2]

    assert (running["request_id"], running["outcome"]) == ("r", None)


def test_following_goes_on_until_it_is_stopped(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """New records appear, also from a new journal; Ctrl-C ends it with exit 0."""
    with closing(still_open(data_dir, ended("old"), ended("a"))) as living:
        naps = count(1)

        def wait(stopped: threading.Event, seconds: float) -> bool:
            match next(naps):
                case 1:
                    living.commit([ended("b")])
                case 2:
                    written(data_dir, [ended("c")])
                case _:
                    signal.raise_signal(signal.SIGINT)
            return stopped.is_set()

        monkeypatch.setattr("threading.Event.wait", wait)
        assert ids_of("--follow", "--limit", "1") == ["a", "b", "c"]


def test_a_broken_journal_is_exit_1_and_the_others_are_listed(data_dir: Path) -> None:
    """One line on stderr names the broken journal."""
    written(data_dir, [], [ended("a")])
    (data_dir / "journal-0.db").write_bytes(GARBAGE)

    result = run("audit", "list", "--json", "--limit", "9")

    assert (result.exit_code, json.loads(result.stdout)["request_id"]) == (1, "a")
    assert result.stderr.startswith(f"gatewayctl audit list: {data_dir}/journal-0.db: ")
    assert result.stderr.count("\n") == 1


def test_no_journals_at_all(data_dir: Path) -> None:
    """The directory is named, as it may be the wrong one; that is no error."""
    result = run("audit", "list", "--json")

    assert (result.exit_code, result.stdout) == (0, "")
    assert f"there are no journals in {data_dir}" in result.stderr


def test_a_whole_request_is_shown(data_dir: Path) -> None:
    """All fields, each attempt, and the outcome and reason in words are printed."""
    attempts = [
        Attempt("gpu-1", 0.001, reason=reason_of(500), ended=0.003),
        Attempt("gpu-2", 0.004, ended=2.5),
        Attempt("gpu-3", 2.004, is_hedge=True, first_chunk=2.5),
    ]
    tokens: dict[str, Any] = {
        "prompt_tokens": 1100,
        "cached_tokens": 1000,
        "completion_tokens": 3,
        "tokens_source": "reported",
    }
    ends: dict[str, Any] = {
        "client_request_id": "mine-1",
        "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
        "outcome": "upstream_failed",
        "reason": "idle_timeout",
        "backend": "gpu-3",
    }
    written(data_dir, [ended("abc", took=9.5, attempts=attempts, bytes_in=2048, **tokens, **ends)])

    assert ran("audit", "show", "abc") == (
        """request      abc
client's id  mine-1
trace        4bf92f3577b34da6a3ce929d0e0e4736
key          name (id)
end user     -
client       192.0.2.7
asked        /api/chat (ollama)
model        m1:latest
backend      gpu-3
outcome      upstream_failed: no backend gave a whole answer
reason       idle_timeout: the backend stopped in the middle of its answer (race.idle_timeout)
status       200
tokens       1,100 prompt (1,000 cached), 3 completion, as the backend reported
bytes        2,048 in, 0 out
recorded in  journal-0.db, record 1

2026-01-02T03:04:05.000000Z  the request arrived
                      +1 ms  asked gpu-1
                             gpu-1 failed: status_500: the backend answered with status 500
                      +4 ms  asked gpu-2
                             gpu-2 was cancelled before its first chunk
                  +2,004 ms  asked gpu-3 as a hedge, because the first was slow
                  +2,500 ms  first chunk from gpu-3
                  +9,500 ms  ended: upstream_failed

               0                                             9,500 ms
gpu-1         |-                                                     | failed
gpu-2         |--------------                                        | cancelled
gpu-3 (hedge) |           ---########################################| answered
"""
    )
    assert json.loads(ran("audit", "show", "abc", "--json")) == listed()[0]


def test_a_request_by_an_alias_is_shown(data_dir: Path) -> None:
    """The name that was asked stands beside the model, and each attempt has its model."""
    attempts = [
        Attempt("gpu-1", 0.001, reason=reason_of(500), model="big:70b"),
        Attempt("gpu-1", 0.004, first_chunk=0.5, model="small:8b"),
    ]
    asked: dict[str, Any] = {"model": "small:8b", "alias": "gpt-4o", "backend": "gpu-1"}
    written(data_dir, [ended("abc", attempts=attempts, **asked)])
    shown = ran("audit", "show", "abc")

    assert "model        small:8b (asked for as gpt-4o)\n" in shown
    assert "+1 ms  asked gpu-1 for big:70b\n" in shown
    assert "+4 ms  asked gpu-1 for small:8b\n" in shown


def test_a_request_without_a_known_end_is_shown(data_dir: Path) -> None:
    """A running and a killed request say that their end is not known."""
    with closing(still_open(data_dir, began("r"))):
        running = ran("audit", "show", "r")
    with closing(still_open(data_dir)):
        killed = ran("audit", "show", "r")

    assert "outcome      running: it has not ended" in running
    assert "journal-9.db, open" in running
    assert "outcome      killed: the gateway ended before the request had" in killed
    assert "the gateway was killed" in killed


def test_an_unknown_request(data_dir: Path) -> None:
    """It makes exit 1, and the id is shown escaped."""
    written(data_dir, [ended("a")])
    result = run("audit", "show", "\x1b[2J")

    assert (result.exit_code, result.stdout) == (1, "")
    assert '"\\u001b[2J" is recorded' in result.stderr


def test_hostile_records_do_not_reach_the_terminal(data_dir: Path) -> None:
    """Values from clients and from edited files are printed as text."""
    hostile = dict.fromkeys(("key_name", "model", "backend", "reason", "end_user"), ESCAPE)
    written(
        data_dir,
        [ended("a", outcome=ESCAPE, attempts=[Attempt(ESCAPE, 0, reason=StatusReason(ESCAPE))])],
    )
    changed(
        data_dir / "journal-0.db",
        "UPDATE rows SET document = json_patch(document, ?)",
        json.dumps({**hostile, "client": ESCAPE, "endpoint": ESCAPE, "key_id": "\ud800"}),
    )

    shown = ran("audit", "list") + ran("audit", "list", "--json") + ran("audit", "show", "a")

    assert all(line.isprintable() for line in shown.splitlines())
    assert "\\u001b[31mred" in shown
