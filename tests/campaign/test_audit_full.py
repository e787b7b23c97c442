"""A full disk under a gateway's process, in both modes: no record is lost, and service returns.

The disk is full for one process, through a limit on the size of its files that any user may set.
"""

from __future__ import annotations

import http.client
import json
import random
import signal
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import pytest

from ollama_gateway.ledger.writer import CAPACITY
from tests.campaign.audit_log import (
    MEBIBYTE,
    check_chain,
    fill_disk,
    free_disk,
    is_written,
    names_of,
    records_in,
    resident,
)
from tests.campaign.client import OK, UNAVAILABLE, Request, eventually, sent, until_served
from tests.campaign.conftest import Note
from tests.campaign.sizes import Sizes
from tests.smoke.fleet import PATIENCE, Fleet, Gateway, fleet

AT_ONCE: Final = 8
STREAMS: Final = 5
SIMULATORS: Final = {
    "quick": ("--model", "quick:1", "--tokens", "3", "--token-delay", "0ms"),
    "slow": ("--model", "slow:1", "--tokens", "40", "--token-delay", "50ms"),
}


@pytest.fixture(params=["strict", "buffered"])
def mode(request: pytest.FixtureRequest) -> str:
    """Return each mode."""
    return str(request.param)


@pytest.fixture
def started(tmp_path: Path, mode: str) -> Iterator[Fleet]:
    """Start one gateway, whose disk may be filled."""
    with fleet(tmp_path, SIMULATORS, GATEWAY_AUDIT_MODE=mode) as opened:
        yield opened


def quick(started: Fleet) -> Request:
    """Return a short chat."""
    return Request(started.port, started.key, "quick:1", generation=3)


def ask(started: Fleet, count: int) -> list[Request]:
    """Send that many short chats, some at once."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(lambda _: quick(started).send(), range(count)))


def statuses(requests: list[Request]) -> Counter[int]:
    """Count the statuses."""
    return Counter(request.status for request in requests)


def readiness(gateway: Gateway) -> tuple[int, list[str]]:
    """Return the status of `/readyz` and its reasons."""
    address = ("127.0.0.1", gateway.admin_port)
    with closing(http.client.HTTPConnection(*address, timeout=PATIENCE)) as connection:
        connection.request("GET", "/readyz")
        with connection.getresponse() as answer:
            return answer.status, json.load(answer)["reasons"]


def logged(gateway: Gateway) -> list[str]:
    """Return the ids of the requests whose end is in the gateway's log."""
    lines = [line for line in gateway.process.lines if '"event": "exchange"' in line]
    return [json.loads(line)["request_id"] for line in lines]


def check_records(started: Fleet, directory: Path, requests: list[Request]) -> dict[str, Any]:
    """Check that each request has a record; return the records. Refused ones may be only logged.

    Exactly the answers that a client got whole are completed.
    """
    records, names = records_in(directory), names_of(requests)
    refused = names_of([request for request in requests if request.status == UNAVAILABLE])
    whole = names_of([request for request in requests if request.is_whole])
    assert names - refused <= records.keys() <= names
    assert {name for name, record in records.items() if record["outcome"] == "completed"} == whole
    eventually(lambda: len(logged(started.gateways[0])) >= len(names))
    assert sorted(logged(started.gateways[0])) == sorted(names)
    check_chain(started)
    return records


@pytest.mark.parametrize("mode", ["strict"], indirect=True)
def test_strict_serves_nothing_it_cannot_record(
    started: Fleet, tmp_path: Path, sizes: Sizes, note: Note
) -> None:
    """It is not ready and answers 503; open streams end in an error; with room it recovers.

    The simulator pauses until the disk is full, so that no stream ends before.
    """
    [gateway], simulator = started.gateways, started.simulators["slow"].popen
    requests = ask(started, 5)
    streams = [
        Request(started.port, started.key, "slow:1", 40, streams=True) for _ in range(STREAMS)
    ]
    with sent(streams):
        eventually(lambda: all(stream.chunks > 1 for stream in streams))
        simulator.send_signal(signal.SIGSTOP)
        fill_disk(gateway, tmp_path)
        refused = ask(started, min(sizes.unwritten, 500))
        assert readiness(gateway) == (503, ["the audit journal cannot be written"])
        simulator.send_signal(signal.SIGCONT)
    free_disk(gateway)
    tries = list(until_served(lambda: quick(started), PATIENCE, random.Random(0)))  # noqa: S311
    eventually(lambda: is_written(gateway))

    assert statuses(refused) == {UNAVAILABLE: len(refused)}
    assert all(b"cannot be recorded" in request.last for request in refused + streams)
    assert all(stream.status == OK and not stream.is_whole for stream in streams)
    assert tries[-1].is_whole
    assert readiness(gateway) == (200, [])
    records = check_records(started, tmp_path, [*requests, *streams, *refused, *tries])
    cut = [records[name] for name in names_of(streams)]
    assert {(record["outcome"], record["reason"]) for record in cut} == {
        ("refused", "audit_unavailable")
    }
    note(f"{len(refused)} refused, {len(records.keys() & names_of(refused))} of them with a row")
    note(f"served {tries[-1].ended - tries[0].began:.2f} s after there was room")


@pytest.mark.parametrize("mode", ["buffered"], indirect=True)
def test_buffered_goes_on(started: Fleet, tmp_path: Path, sizes: Sizes, note: Note) -> None:
    """Records wait in memory up to a bound, then it answers 503; with room all are written.

    Only the full size reaches the bound.
    """
    [gateway] = started.gateways
    requests = ask(started, 5)
    fill_disk(gateway, tmp_path)
    before, memory = records_in(tmp_path), resident(gateway)
    more = ask(started, sizes.unwritten)
    served = statuses(more)[OK]
    eventually(lambda: gateway.status()["audit"]["failing"])  # a few are served before any write
    assert gateway.status()["audit"]["rows_waiting"] == served
    assert records_in(tmp_path) == before
    reasons = ["too many audit rows wait for the journal"]
    is_over = sizes.unwritten > CAPACITY
    assert readiness(gateway) == ((503, reasons) if is_over else (200, []))
    grown = (resident(gateway) - memory) / MEBIBYTE
    free_disk(gateway)
    eventually(lambda: is_written(gateway))
    requests += [*more, quick(started).send()]
    eventually(lambda: len(records_in(tmp_path)) >= len(requests) - len(more) + served)

    assert statuses(more).keys() <= {OK, UNAVAILABLE}
    assert min(sizes.unwritten, CAPACITY) <= served < CAPACITY + AT_ONCE
    assert requests[-1].is_whole
    records = check_records(started, tmp_path, requests)
    assert records.keys() == names_of([request for request in requests if request.status == OK])
    note(f"{served} served with a full disk, {len(more) - served} refused; {grown:.1f} MiB more")
