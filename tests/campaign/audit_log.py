"""The trail of a gateway's process, read from outside it."""

from __future__ import annotations

import json
import resource
from collections import Counter
from pathlib import Path
from typing import Any, Final

from ollama_gateway.ledger.journal import links_of, reading
from ollama_gateway.ledger.read.journals import paths_in
from tests.campaign.client import Request, eventually
from tests.smoke.fleet import Fleet, Gateway

MEBIBYTE: Final = 2**20


def rows_in(directory: Path) -> dict[str, Any]:
    """The finished rows of all journals, by their requests; fails where one has two."""
    documents = []
    for path in paths_in(directory):
        with reading(path) as connection:
            documents += [json.loads(link.document) for link in links_of(connection)]
    records = {document["request_id"]: document for document in documents}
    assert len(records) == len(documents)
    return records


def open_in(directory: Path) -> set[str]:
    """The requests that have an intent and no end."""
    names: set[str] = set()
    for path in paths_in(directory):
        with reading(path) as connection:
            names |= {name for (name,) in connection.execute("SELECT request_id FROM intents")}
    return names


def names_of(requests: list[Request]) -> set[str]:
    """The names of requests that were answered; fails where two have the same."""
    names = Counter(request.request_id for request in requests)
    assert "" not in names
    assert all(count == 1 for count in names.values())
    return set(names)


def check_chain(fleet: Fleet) -> None:
    """`gatewayctl audit verify` finds nothing."""
    done = fleet.ctl("audit", "verify")
    assert (done.returncode, done.stderr) == (0, ""), done


def is_written(gateway: Gateway) -> bool:
    """Whether no row waits in its memory."""
    return bool(gateway.status()["audit"]["rows_waiting"] == 0)


def resident(gateway: Gateway) -> int:
    """Bytes of its memory."""
    pages = Path(f"/proc/{gateway.process.popen.pid}/statm").read_text().split()[1]
    return int(pages) * resource.getpagesize()


def size_of(directory: Path) -> str:
    """The bytes of the first journal, and of what SQLite has not moved into it yet."""
    sizes = [(directory / f"journal-0.db{end}").stat().st_size for end in ("", "-wal")]
    return " + ".join(f"{size / MEBIBYTE:.1f}" for size in sizes) + " MiB"


def fill_disk(gateway: Gateway, directory: Path) -> None:
    """Let the process make no file longer than its write-ahead log is now; nothing may wait.

    That is what a full disk is to the journal, and it needs no rights: `free_disk` ends it.
    """
    eventually(lambda: is_written(gateway))
    _limit(gateway, (directory / "journal-0.db-wal").stat().st_size)


def free_disk(gateway: Gateway) -> None:
    """Let files grow again."""
    _limit(gateway, resource.RLIM_INFINITY)


def _limit(gateway: Gateway, size: int) -> None:
    pid = gateway.process.popen.pid
    _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, hard))
