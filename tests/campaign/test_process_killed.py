"""One of several processes is killed again and again under load: only its own clients notice.

The mode is strict, so each answer that a client got to its end must have its audit record.
"""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import attrs

from ollama_gateway.ledger.journal import links_of, reading
from tests.campaign.audit_log import check_chain, names_of, open_in, records_in
from tests.campaign.client import OK, Request, eventually, sent
from tests.campaign.conftest import Note
from tests.campaign.sizes import Sizes
from tests.smoke.fleet import Fleet, Gateway
from tests.smoke.processes import all_serve, figures, is_alive, members, several

LONGEST: Final = 30
"""Most tokens of a stream."""
SIMULATORS: Final = {"a": ("--model", "m:1", "--tokens", f"{LONGEST}", "--token-delay", "20ms")}
COUNTED: Final = ("_total", "_count", "_sum", "_bucket")
NAP: Final = 0.2
"""Seconds between two reads of the figures."""


@attrs.define
class Watch:
    """The figures that an operator sees meanwhile, page by page."""

    gateway: Gateway
    pages: list[dict[str, float]] = attrs.field(factory=list)
    unready: int = 0
    _is_over: threading.Event = attrs.field(factory=threading.Event)

    @contextmanager
    def looking(self) -> Iterator[None]:
        """Read pages for the length of the block, and once more."""
        thread = threading.Thread(target=self._look)
        thread.start()
        try:
            yield
        finally:
            self._is_over.set()
            thread.join()
        self.pages.append(figures(self.gateway))

    def _look(self) -> None:
        while not self._is_over.wait(NAP):
            self.pages.append(figures(self.gateway))
            self.unready += not self.gateway.status()["ready"]

    def falls(self) -> list[tuple[str, float, float]]:
        """Return counters that went back."""
        return [
            (name, value, after.get(name, 0))
            for before, after in zip(self.pages, self.pages[1:], strict=False)
            for name, value in before.items()
            if name.partition("{")[0].endswith(COUNTED) and after.get(name, 0) < value
        ]


@attrs.frozen
class Killed:
    """A process that was killed while streams ran, and the ends of these."""

    requests: list[Request]
    held: set[str]
    """Requests in the journal of the process."""
    records: dict[str, Any]
    """The audit records of all requests, read once it served again."""
    back_after: float
    """Seconds until it served again."""

    @property
    def broken(self) -> list[Request]:
        """Requests whose connection ended before the answer did."""
        return [request for request in self.requests if not request.is_whole]

    @property
    def whole(self) -> set[str]:
        """Requests whose terminal marker came to the client."""
        return names_of([request for request in self.requests if request.is_whole])


def kill(started: Fleet, directory: Path, count: int, random_: random.Random) -> Killed:
    """Kill one of the processes once a share of the streams' tokens has come."""
    gateway, known, together = (
        started.gateways[0],
        set(records_in(directory)),
        threading.Barrier(count),
    )
    requests = [
        Request(started.port, started.key, "m:1", random_.randint(1, LONGEST), streams=True)
        for _ in range(count)
    ]
    for request in requests:
        request.start = together
    victim = random_.choice(members(gateway))
    share = random_.random() * sum(request.generation for request in requests)
    with sent(requests):
        eventually(lambda: sum(request.chunks for request in requests) >= share)
        os.kill(victim["pid"], signal.SIGKILL)
        began = time.monotonic()
        eventually(lambda: not is_alive(victim["pid"]))
        held = names_in(directory / victim["status"]["audit"]["journal"])
        eventually(lambda: all_serve(gateway))
        back_after = time.monotonic() - began
    assert open_in(directory) == set()
    records = {name: record for name, record in records_in(directory).items() if name not in known}
    return Killed(requests, held, records, back_after)


def names_in(path: Path) -> set[str]:
    """Return the requests of one journal, ended or open."""
    with reading(path) as connection:
        opened = connection.execute("SELECT request_id FROM intents")
        return {link.request_id for link in links_of(connection)} | {name for (name,) in opened}


def check(killed: Killed) -> None:
    """Each stream was complete or the killed process's, and has the record that fits."""
    outcomes = {name: record["outcome"] for name, record in killed.records.items()}
    for request in killed.broken:
        assert request.status == OK or request.is_broken, request
        assert b"error" not in request.last, request
    begun = [request for request in killed.broken if request.request_id]
    cut = names_of(begun)
    assert cut <= killed.held
    assert all(outcomes[name] == "completed" for name in killed.whole)
    assert all(outcomes[name] in {"completed", "killed"} for name in cut)
    lost = {name for name, outcome in outcomes.items() if outcome == "killed"}
    assert lost <= killed.held
    assert len(outcomes) <= len(killed.requests)


def test_who_had_another_process_does_not_notice(tmp_path: Path, sizes: Sizes, note: Note) -> None:
    """Only streams of the killed process are cut, no record is lost, and no counter goes back."""
    total: Counter[str] = Counter()
    with several(tmp_path, SIMULATORS, GATEWAY_AUDIT_MODE="strict") as started:
        watch = Watch(started.gateways[0])
        with watch.looking():
            for seed in range(sizes.kills):
                random_ = random.Random(seed)  # noqa: S311 - to be repeatable
                killed = kill(started, tmp_path, sizes.killed_streams, random_)
                assert [line for line in started.gateway.lines if "journal failing" in line] == []
                check(killed)
                outcomes = Counter(record["outcome"] for record in killed.records.values())
                counts = Counter(
                    streams=len(killed.requests),
                    whole=len(killed.whole),
                    broken=len(killed.broken),
                    **outcomes,
                )
                total += counts
                text = ", ".join(f"{n} {word}" for word, n in counts.items())
                note(f"seed {seed}: {text}, back after {killed.back_after:.1f} s")
        check_chain(started)

    note(f"{sizes.kills} kills: " + ", ".join(f"{n} {word}" for word, n in total.items()))
    note(f"{len(watch.pages)} pages of figures, {watch.unready} times not ready")
    assert watch.falls() == []
    assert watch.unready == 0
    assert total["whole"] > 0
    assert total["broken"] > 0
