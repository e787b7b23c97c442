"""Requests in flight of real processes: listed and cancelled with `gatewayctl`, on real sockets."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import IncompleteRead
from pathlib import Path
from typing import Any, Final

from tests.smoke.asking import ask
from tests.smoke.fleet import PATIENCE, Fleet, fleet
from tests.smoke.processes import COUNT, several
from tests.support.patience import wait_until

LONG = {"a": ("--model", "m:1", "--tokens", "100000", "--token-delay", "20ms")}
TOKEN: Final[dict[str, Any]] = {"GATEWAY_SERVER_ADMIN_TOKEN": "an-admin-token-of-a-test"}
BODY = {"model": "m:1", "messages": [{"role": "user", "content": "hi"}]}


@contextmanager
def chatting(fleet: Fleet, count: int) -> Iterator[list[bytes]]:
    """Run chats without end; yield the list of what their clients got."""
    bodies: list[bytes] = []

    def chat() -> None:
        try:
            bodies.append(ask(fleet.port, "/api/chat", fleet.key, BODY).body)
        except IncompleteRead as cut:
            bodies.append(cut.partial)

    threads = [threading.Thread(target=chat) for _ in range(count)]
    for thread in threads:
        thread.start()
    wait_until(lambda: fleet.figures("a").in_flight == count, lambda: fleet.figures("a"))
    yield bodies
    for thread in threads:
        thread.join(PATIENCE)


def test_one_is_cancelled(tmp_path: Path) -> None:
    """The backend sees its client leave, the client gets an error, and the records say by whom."""
    with fleet(tmp_path, LONG, **TOKEN) as made, chatting(made, 2) as bodies:
        wait_until(
            lambda: {one["stage"] for one in made.ctl_json("requests", "list")} == {"streaming"},
            lambda: made.ctl_json("requests", "list"),
        )
        [one, other] = made.ctl_json("requests", "list")
        done = made.ctl("requests", "cancel", one["id"])
        wait_until(lambda: made.figures("a").in_flight == 1, lambda: made.figures("a"))
        again = made.ctl("requests", "cancel", one["id"])
        rest = made.ctl_json("requests", "list", "--key", "smoke")
        by_key = made.ctl("requests", "cancel", "--key", "smoke", "--yes")
        wait_until(lambda: made.figures("a").in_flight == 0, lambda: made.figures("a"))
        wait_until(lambda: len(bodies) == 2, lambda: bodies)
        shown = made.ctl("audit", "show", one["id"]).stdout

    assert done.returncode == 0, done.stderr
    assert (again.returncode, [item["id"] for item in rest]) == (1, [other["id"]])
    assert by_key.stdout == '1 request of "smoke" cancelled\n'
    assert all(b"an operator of the gateway cancelled" in body for body in bodies)
    assert "cancelled by settings" in shown


def test_those_of_several_processes(tmp_path: Path) -> None:
    """A list has those of all processes, and a cancel reaches the process that has the request."""
    count = 12
    with several(tmp_path, LONG, **TOKEN) as made, chatting(made, count) as bodies:
        found = made.ctl_json("requests", "list")
        firsts = {one["process"]: one["id"] for one in found}
        for request_id in firsts.values():
            assert made.ctl("requests", "cancel", request_id).returncode == 0
        left = made.ctl_json("requests", "list")
        unknown = made.ctl("requests", "cancel", "0" * 32)
        done = made.ctl_json("requests", "cancel", "--key", "smoke", "--yes")
        wait_until(lambda: len(bodies) == count, lambda: bodies)

    assert len(found) == count
    assert set(firsts) <= set(range(COUNT))
    assert len(left) == count - len(firsts)
    assert unknown.returncode == 1
    assert sum(len(answer["cancelled"]) for answer in done) == len(left)
