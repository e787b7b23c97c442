"""PostgreSQL stops while a gateway serves: its records wait on the disk, and all arrive."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import attrs

from tests.campaign.audit_log import MEBIBYTE, names_of, records_in, resident, size_of
from tests.campaign.client import OK, Request, eventually
from tests.campaign.conftest import Note
from tests.campaign.sizes import Sizes
from tests.smoke.fleet import Fleet, fleet
from tests.support.postgres_server import PostgresServer, private_postgres

AT_ONCE: Final = 32
SIMULATORS: Final = {"a": ("--model", "m:1", "--tokens", "5", "--token-delay", "0ms")}
ALLOWED: Final = 64 * MEBIBYTE
"""Bytes by which the gateway's memory may grow."""


@attrs.define
class Load:
    """A client that sends requests at a steady rate, however long answers take."""

    fleet: Fleet
    rate: int
    note: Note
    requests: list[Request] = attrs.field(factory=list)

    def run(self, seconds: float, what: str, seen: Callable[[], object]) -> None:
        """Send requests for that many seconds; call `seen` after every tenth one."""
        count = int(self.rate * seconds)
        requests = [self._request(number) for number in range(count)]
        ends: list[Future[Request]] = []
        began = time.monotonic()
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for number, request in enumerate(requests):
                time.sleep(max(0.0, began + number / self.rate - time.monotonic()))
                ends.append(pool.submit(request.send))
                if number % 10 == 0:
                    seen()
        for end in ends:
            end.result()
        took = sorted(request.ended - request.began for request in requests)
        rate = count / (time.monotonic() - began)
        self.note(
            f"{what}: {count} requests, {rate:.0f} a second, each {took[count // 2] * 1000:.0f} ms,"
            f" the slowest {took[-1] * 1000:.0f} ms"
        )
        self.requests += requests

    def _request(self, number: int) -> Request:
        key = self.fleet.key
        return Request(self.fleet.port, key, "m:1", generation=5, streams=number % 2 == 0)


def arrived(server: PostgresServer) -> list[str]:
    """Return the ids of the records in PostgreSQL."""
    found = server.execute("SELECT request_id FROM gateway_audit", "migrated")
    return [name for (name,) in found]


def is_moved(started: Fleet) -> bool:
    """Whether no record is on the gateway's machine any more."""
    audit = started.gateways[0].status()["audit"]
    return (audit["rows_unmoved"], audit["rows_waiting"]) == (0, 0)


def test_an_outage_of_postgresql(tmp_path: Path, sizes: Sizes, note: Note) -> None:
    """All requests are served, no record is lost or doubled, and memory stays small."""
    with ExitStack() as stack:
        server = stack.enter_context(private_postgres())
        url = server.url_of("migrated")
        started = stack.enter_context(fleet(tmp_path, SIMULATORS, GATEWAY_STORAGE_DATABASE_URL=url))
        [gateway], load, memory = started.gateways, Load(started, sizes.rate, note), list[int]()
        load.run(sizes.away / 3, "before", lambda: None)
        eventually(lambda: is_moved(started))
        before = resident(gateway)

        server.stop()
        load.run(sizes.away, "away", lambda: memory.append(resident(gateway)))
        eventually(lambda: gateway.status()["audit"]["rows_waiting"] == 0)
        kept, size = records_in(tmp_path), size_of(tmp_path)
        server.start()
        back_at = time.monotonic()
        load.run(sizes.away / 6, "back", lambda: memory.append(resident(gateway)))
        eventually(lambda: is_moved(started))
        moved = time.monotonic() - back_at

        grown = max(memory) - before
        note(f"memory {before / MEBIBYTE:.1f} MiB, at most {grown / MEBIBYTE:.1f} MiB more")
        note(f"{len(kept)} rows waited in a journal of {size}; {size_of(tmp_path)} in the end")
        note(f"all were moved {moved:.1f} s after the return, with load for {sizes.away / 6:.1f} s")
        assert {request.status for request in load.requests} == {OK}
        assert len(kept) >= sizes.rate * sizes.away
        assert records_in(tmp_path) == {}
        assert sorted(arrived(server)) == sorted(names_of(load.requests))
        assert grown < ALLOWED
