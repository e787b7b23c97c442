"""Figures that are read from files."""

from __future__ import annotations

import ssl
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
import trustme

from ollama_gateway.certificate_ends import NoCertificate, end_of
from ollama_gateway.ledger.ownership import own_journal
from ollama_gateway.server.disk_readings import DiskReadings, age_of
from tests.ledger.records import KEY, final

END = datetime(2031, 5, 6, 7, 8, 9, tzinfo=UTC)
LATE = datetime(2051, 1, 2, 3, 4, 5, tzinfo=UTC)


def pem(end: datetime) -> bytes:
    """Make a chain whose first certificate ends then."""
    chain = trustme.CA().issue_cert("gateway.example", not_after=end).cert_chain_pems
    return b"".join(one.bytes() for one in chain)


@pytest.mark.parametrize("end", [END, LATE])
def test_when_a_certificate_ends(end: datetime) -> None:
    """The first one of a chain counts; years from 2050 on are written otherwise."""
    text = b"a comment\n" + pem(end)

    assert datetime.fromtimestamp(end_of(text), UTC) == end


def test_what_is_no_certificate() -> None:
    """Whatever a file holds, there is one kind of error."""
    good = pem(END)
    begin = b"-----BEGIN CERTIFICATE-----\n"
    for spoilt in (
        b"",
        good.replace(b"BEGIN CERT", b"BEGIN KEY"),
        good[: len(good) // 4],
        begin + b"MAA=\n-----END CERTIFICATE-----",
        begin + b"\n-----END CERTIFICATE-----",
        begin + b"\xff\n-----END CERTIFICATE-----",
        begin + b"MIL/////\n-----END CERTIFICATE-----",
    ):
        with pytest.raises(NoCertificate):
            end_of(spoilt)


def test_every_cut_of_a_certificate_is_an_error_of_one_kind() -> None:
    """A file that is being written is refused, whichever byte is its last."""
    mark = "-----END CERTIFICATE-----"
    first, _, _ = pem(END).decode().partition(mark)
    der = ssl.PEM_cert_to_DER_cert(first + mark)
    for length in range(len(der)):
        with pytest.raises(NoCertificate):
            end_of(ssl.DER_cert_to_PEM_cert(der[:length]).encode())


def test_a_reading(tmp_path: Path) -> None:
    """One reading has the journal's size and oldest record, the disk, and each certificate."""
    cert = tmp_path / "cert.pem"
    cert.write_bytes(pem(END))
    before = time.time()
    with own_journal(tmp_path, is_strict=True, key=KEY) as journal:
        empty = DiskReadings(journal.path, reads_records=True).read([])
        journal.commit([final("a"), final("b")])
        found = DiskReadings(journal.path, reads_records=True).read(
            [("listener", cert), ("backend a", tmp_path / "missing.pem")]
        )
        others = DiskReadings(journal.path, reads_records=False).read([])

    assert empty.oldest is None
    assert found.oldest is not None
    assert others.oldest is None
    assert age_of(found.oldest) >= 0
    assert age_of(before + 1e6) == age_of(None) == 0
    assert found.journal_bytes is not None
    assert found.journal_bytes >= journal.path.stat().st_size > 0
    assert found.size_bytes is not None
    assert found.free_bytes is not None
    assert found.size_bytes >= found.free_bytes > 0
    assert found.certificate_ends == {"listener": END.timestamp()}


def test_without_a_disk(tmp_path: Path) -> None:
    """A journal that is gone leaves its figures out, and nothing fails."""
    found = DiskReadings(tmp_path / "gone" / "journal-0.db", reads_records=True).read([])

    assert (found.oldest, found.free_bytes) == (None, None)
