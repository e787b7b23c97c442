"""A gateway in strict mode, killed again and again: each end that a client saw has a record."""

from __future__ import annotations

import random
import signal
import threading
from collections import Counter
from pathlib import Path
from typing import Any, Final

import attrs

from tests.campaign.audit_log import check_chain, names_of, open_in, records_in
from tests.campaign.client import Request, eventually, sent
from tests.campaign.conftest import Note
from tests.campaign.sizes import Sizes
from tests.smoke.fleet import Fleet, fleet

LONGEST: Final = 30
"""Tokens of a stream, at most."""
SIMULATORS: Final = {"a": ("--model", "m:1", "--tokens", f"{LONGEST}", "--token-delay", "20ms")}


@attrs.frozen
class Killed:
    """The records that a killed gateway left while streams ran, and those after the next start.

    Only records of these streams are in it.
    """

    requests: list[Request]
    ended: dict[str, Any]
    """Records that were finished when it was killed."""
    open: set[str]
    """Requests that had an intent then."""
    after: dict[str, Any]
    """Records once it served again."""

    @property
    def whole(self) -> set[str]:
        """Requests whose terminal marker came to the client."""
        return names_of([request for request in self.requests if request.is_whole])

    @property
    def cut(self) -> set[str]:
        """Requests of which only the beginning came."""
        begun = [request for request in self.requests if request.request_id]
        return names_of(begun) - self.whole

    @property
    def outcomes(self) -> dict[str, str]:
        """The outcomes in their records."""
        return {name: record["outcome"] for name, record in self.after.items()}


def kill(started: Fleet, directory: Path, count: int, random_: random.Random) -> Killed:
    """Kill the gateway when a share of the streams' chunks has come, and start it again."""
    before, served = records_in(directory), started.figures("a").requests
    together = threading.Barrier(count)
    requests = [
        Request(started.port, started.key, "m:1", random_.randint(1, LONGEST), streams=True)
        for _ in range(count)
    ]
    for request in requests:
        request.start = together
    share = random_.random() * sum(request.generation for request in requests)
    with sent(requests):
        eventually(lambda: sum(request.chunks for request in requests) >= share)
        started.gateway.stop(signal.SIGKILL)
    ended, left = records_in(directory), open_in(directory)
    started.restart(0, signal.SIGKILL)

    assert open_in(directory) == set()
    after = records_in(directory)
    assert started.figures("a").requests - served <= len(after) - len(before) <= count
    assert {name: after.pop(name) for name in before} == before
    return Killed(requests, {n: record for n, record in ended.items() if n in after}, left, after)


def check(killed: Killed) -> None:
    """Check that the records agree with the disk at the kill and with what clients saw."""
    assert all(killed.ended[name]["outcome"] == "completed" for name in killed.whole)
    assert killed.cut <= killed.ended.keys() | killed.open
    assert {record["outcome"] for record in killed.ended.values()} <= {"completed"}
    assert killed.outcomes == {
        **dict.fromkeys(killed.ended, "completed"),
        **dict.fromkeys(killed.open, "killed"),
    }
    assert all(killed.after[name]["reason"] == "killed" for name in killed.open)


def figures_of(killed: Killed) -> Counter[str]:
    """Return the figures of one kill."""
    unseen = killed.ended.keys() - killed.whole
    return Counter(
        streams=len(killed.requests),
        whole=len(killed.whole),
        cut=len(killed.cut),
        unanswered=len(killed.requests) - len(killed.whole) - len(killed.cut),
        completed=len(killed.ended),
        unseen=len(unseen),
        killed=len(killed.open),
    )


def test_what_was_seen_to_end_has_its_record(tmp_path: Path, sizes: Sizes, note: Note) -> None:
    """After a kill and a start, each stream that ended or was admitted has one record.

    Requests at a backend had their intent; open ones are killed; the chain holds.
    """
    total: Counter[str] = Counter()
    with fleet(tmp_path, SIMULATORS, GATEWAY_AUDIT_MODE="strict") as started:
        for seed in range(sizes.kills):
            random_ = random.Random(seed)  # noqa: S311 - to be repeatable
            killed = kill(started, tmp_path, sizes.killed_streams, random_)
            check(killed)
            total += figures_of(killed)
            note(
                f"seed {seed}: "
                + ", ".join(f"{n} {word}" for word, n in figures_of(killed).items())
            )
        check_chain(started)

    note(f"{sizes.kills} kills: " + ", ".join(f"{n} {word}" for word, n in total.items()))
    assert total["completed"] + total["killed"] == len(records_in(tmp_path))
