"""The audit log as an operator reads it, while gateways write it, stop and are killed."""

from __future__ import annotations

import http.client
import json
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest

from tests.smoke.asking import CHAT, ask
from tests.smoke.fleet import PATIENCE, Fleet, clean_environment, fleet
from tests.support.patience import wait_until

SLOW = {"a": ("--model", "shared:1", "--tokens", "2000", "--token-delay", "50ms")}


@attrs.frozen
class Seen:
    """The id and figures of a request that a client saw."""

    request_id: str
    status: int
    prompt_tokens: int
    completion_tokens: int


@contextmanager
def asked(fleet: Fleet) -> Iterator[Any]:
    """Return a chat's answer of which nothing was read yet."""
    with closing(http.client.HTTPConnection("127.0.0.1", fleet.port, timeout=PATIENCE)) as client:
        headers = {"Authorization": f"Bearer {fleet.key}"}
        client.request("POST", "/api/chat", json.dumps(CHAT), headers)
        yield client.getresponse()


def chat(fleet: Fleet, **options: Any) -> Seen:
    """Read a chat to its end."""
    answer = ask(fleet.port, "/api/chat", fleet.key, CHAT | options)
    last = json.loads(answer.body.splitlines()[-1])
    counts = (last.get(name, 0) for name in ("prompt_eval_count", "eval_count"))
    return Seen(answer.request_id, answer.status, *counts)


def records(fleet: Fleet, *arguments: str) -> list[dict[str, Any]]:
    """Return the records that `audit list --json` prints."""
    done = fleet.ctl("audit", "list", "--json", *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    return [json.loads(line) for line in done.stdout.splitlines()]


def recorded_chat(fleet: Fleet) -> None:
    """Read a chat, and wait until its record can be listed, as then those before it can be."""
    seen = chat(fleet)
    wait_until(
        lambda: (
            seen.request_id in [record["request_id"] for record in records(fleet, "--limit", "1")]
        )
    )


def as_seen(record: dict[str, Any]) -> Seen:
    """Return the figures a client must have seen, by the audit record."""
    counts = (record[name] or 0 for name in ("prompt_tokens", "completion_tokens"))
    return Seen(record["request_id"], record["status"], *counts)


def verified(fleet: Fleet) -> tuple[int, list[dict[str, Any]]]:
    """Return the exit code and the findings of `audit verify`."""
    done = fleet.ctl("audit", "verify", "--json")
    return done.returncode, json.loads(done.stdout)


def alter(path: Path, seq: int) -> None:
    """Lower the tokens of an audit record."""
    with closing(sqlite3.connect(path)) as connection, connection:
        changed = "json_set(document, '$.completion_tokens', 1)"
        connection.execute(f"UPDATE rows SET document = {changed} WHERE seq = ?", (seq,))  # noqa: S608


def test_every_request_is_listed_shown_summed_up_and_verified(own_fleet: Fleet) -> None:
    """Each request has one record, sums are those clients saw, and an altered record is named."""
    seen = [chat(own_fleet), chat(own_fleet, stream=False), chat(own_fleet, model="nope")]
    wait_until(lambda: len(records(own_fleet)) == len(seen))
    listed = records(own_fleet)
    open_scenario = own_fleet.ctl("audit", "show", seen[0].request_id)
    [used] = own_fleet.ctl_json("usage", "--since", "7d")

    assert [as_seen(record) for record in listed] == seen
    assert [record["outcome"] for record in listed] == ["completed", "completed", "refused"]
    assert "completed: the whole answer was sent" in open_scenario.stdout
    assert own_fleet.ctl("audit", "show", "nobody").returncode == 1
    assert (used["requests"], used["refused"], used["failed"]) == (3, 1, 0)
    assert used["prompt_tokens"] == sum(one.prompt_tokens for one in seen) > 0
    assert used["completion_tokens"] == sum(one.completion_tokens for one in seen) > 0
    assert verified(own_fleet)[0] == 0

    own_fleet.gateway.stop()
    assert verified(own_fleet)[0] == 0
    alter(Path(own_fleet.environment["GATEWAY_STORAGE_DATA_DIR"]) / "journal-0.db", 2)
    code, [found] = verified(own_fleet)

    assert code == 1
    assert found["fault"] == {"seq": 2, "request_id": seen[1].request_id, "reason": "altered"}


def test_strict_a_killed_gateway_leaves_a_record_of_every_open_stream(tmp_path: Path) -> None:
    """Open records become `killed` at the next start, and the chain continues."""
    with fleet(tmp_path, SLOW, GATEWAY_AUDIT_MODE="strict") as started, ExitStack() as streams:
        answers = [streams.enter_context(asked(started)) for _ in range(3)]
        assert all(b'"done":false' in answer.readline() for answer in answers)
        names = {answer.headers["X-Request-Id"] for answer in answers}
        assert {
            record["request_id"]: record["outcome"] for record in records(started, "--open")
        } == (dict.fromkeys(names))

        started.restart(0, signal.SIGKILL)

        assert {
            record["request_id"]: record["outcome"] for record in records(started, "--open")
        } == (dict.fromkeys(names, "killed"))
        assert verified(started)[0] == 0


@contextmanager
def following(fleet: Fleet, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Run `audit list --follow` during the block."""
    command = (sys.executable, "-m", "ollama_gateway", "audit", "list", "--follow", *arguments)
    environment = {**clean_environment(), **fleet.environment}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_new_record_is_followed(shared_fleet: Fleet, number: signal.Signals) -> None:
    """A new record is printed at once; a signal ends the command with exit code 0."""
    recorded_chat(shared_fleet)
    with following(shared_fleet, "--limit", "0") as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("began")
        seen = chat(shared_fleet)
        assert process.stdout.readline().rstrip().endswith(seen.request_id)
        process.send_signal(number)
        output = process.communicate(timeout=PATIENCE)

        assert (process.returncode, *output) == (0, "", "")


def test_a_reader_may_stop_reading(shared_fleet: Fleet) -> None:
    """A closed pipe, as of `| head -1`, ends the command with exit code 0 and no traceback."""
    recorded_chat(shared_fleet)
    with following(shared_fleet, "--json", "--limit", "1") as process:
        assert process.stdout is not None
        first = json.loads(process.stdout.readline())
        process.stdout.close()
        chat(shared_fleet)

        assert first["endpoint"] == "/api/chat"
        assert process.wait(PATIENCE) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""
