"""A long journal with one altered record, which is found soon."""

from __future__ import annotations

import json
import time
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Final

import attrs

from ollama_gateway.ledger.attempted import Attempt
from ollama_gateway.ledger.document import document_of
from ollama_gateway.ledger.journal import JournalEntry
from tests.campaign.audit_log import size_of
from tests.campaign.conftest import Note
from tests.campaign.sizes import Sizes
from tests.ledger.audit_logs import changed
from tests.ledger.records import BEGAN, KEY, journal, record
from tests.smoke.fleet import ctl

BATCH: Final = 1000
SOON: Final = 10.0
"""Seconds that the command may take, including its start."""


def write(path: Path, count: int) -> None:
    """Write a journal of that many requests, one a second."""
    with closing(journal(path)) as opened:
        for first in range(0, count, BATCH):
            opened.commit([_entry(number) for number in range(first, min(first + BATCH, count))])


def _entry(number: int) -> JournalEntry:
    moment = BEGAN + timedelta(seconds=number)
    attempts = [Attempt("a", 0.001, first_chunk=0.3)]
    ended = attrs.evolve(
        record(f"r{number + 1}"), started_at=moment, backend="a", attempts=attempts
    )
    return JournalEntry(ended.request_id, document_of(ended), is_final=True)


def test_an_altered_record_of_many_is_named(tmp_path: Path, sizes: Sizes, note: Note) -> None:
    """`gatewayctl audit verify` names the journal, the record and the request; exit 1."""
    path, altered = tmp_path / "journal-0.db", sizes.trail - sizes.trail // 10
    write(path, sizes.trail)
    settings = {
        "GATEWAY_STORAGE_DATA_DIR": str(tmp_path),
        "GATEWAY_AUDIT_CHAIN_KEY": KEY.decode(),
    }
    whole = ctl("audit", "verify", environment=settings)
    changed(
        path, "UPDATE rows SET document = replace(document, '200', '201') WHERE seq = ?", altered
    )
    began = time.monotonic()
    done = ctl("audit", "verify", "--json", environment=settings)
    took = time.monotonic() - began

    note(f"row {altered} of {sizes.trail} ({size_of(tmp_path)}) named in {took:.1f} s")
    assert (whole.returncode, whole.stderr) == (0, "")
    assert done.returncode == 1
    [found] = json.loads(done.stdout)
    assert found["fault"] == {"seq": altered, "request_id": f"r{altered}", "reason": "altered"}
    if sizes.is_timed:
        assert took < SOON
