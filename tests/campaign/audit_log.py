"""The audit log of a gateway's process, read from outside it."""

from __future__ import annotations

import json
import resource
from collections import Counter
from pathlib import Path
from typing import Any, Final

from ollama_gateway.ledger.journal import links_of, reading
from ollama_gateway.ledger.read.journal_reader import paths_in
from tests.campaign.client import Request, eventually
from tests.smoke.fleet import Fleet, Gateway

MEBIBYTE: Final = 2**20


def records_in(directory: Path) -> dict[str, Any]:
    """Return the finished records of all journals, by request; fails if a request has two."""
    documents = []
    for path in paths_in(directory):
        with reading(path) as connection:
            documents += [json.loads(link.document) for link in links_of(connection)]
    records = {document["request_id"]: document for document in documents}
    assert len(records) == len(documents)
    return records


def open_in(directory: Path) -> set[str]:
    """Return the ids of requests that have an intent and no end."""
    names: set[str] = set()
    for path in paths_in(directory):
        with reading(path) as connection:
            names |= {name for (name,) in connection.execute("SELECT request_id FROM intents")}
    return names


def names_of(requests: list[Request]) -> set[str]:
    """Return the ids of requests that were answered; fails if two have the same."""
    names = Counter(request.request_id for request in requests)
    assert "" not in names
    assert all(count == 1 for count in names.values())
    return set(names)


def check_chain(fleet: Fleet) -> None:
    """Check that `gatewayctl audit verify` finds no fault."""
    done = fleet.ctl("audit", "verify")
    assert (done.returncode, done.stderr) == (0, ""), done


def is_written(gateway: Gateway) -> bool:
    """Whether no record waits in its memory."""
    return bool(gateway.status()["audit"]["rows_waiting"] == 0)


def resident(gateway: Gateway) -> int:
    """Return the bytes of its memory."""
    pages = Path(f"/proc/{gateway.process.popen.pid}/statm").read_text().split()[1]
    return int(pages) * resource.getpagesize()


def size_of(directory: Path) -> str:
    """Return the sizes of the first journal and of its write-ahead log."""
    sizes = [(directory / f"journal-0.db{end}").stat().st_size for end in ("", "-wal")]
    return " + ".join(f"{size / MEBIBYTE:.1f}" for size in sizes) + " MiB"


def fill_disk(gateway: Gateway, directory: Path) -> None:
    """Keep the process from making any file longer than its write-ahead log is now.

    To the journal that is a full disk, and needs no rights; `free_disk` ends it.
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
