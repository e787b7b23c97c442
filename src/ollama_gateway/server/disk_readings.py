"""Figures that are read from files: every ten seconds, in a thread, and kept for the pages.

A disk that hangs so delays neither a page nor the event loop, and holds one thread only.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Final

import anyio
import attrs

from ollama_gateway.certificate_ends import NoCertificate, end_of
from ollama_gateway.ledger.document import parsed
from ollama_gateway.ledger.journal import JournalError, first_records
from ollama_gateway.storage.batcher import Runner, in_thread

PAUSE: Final = 10.0
"""Seconds between two readings."""
SUFFIXES: Final = ("", "-wal", "-shm")
"""Of the files of one SQLite database."""


@attrs.frozen
class DiskFigures:
    """What one reading has found; None for what could not be read."""

    journal_bytes: int | None = None
    oldest: float | None = None
    """When the oldest record in the journal ended, in seconds since 1970; None if it is empty."""
    free_bytes: int | None = None
    size_bytes: int | None = None
    certificate_ends: Mapping[str, float] = attrs.field(factory=dict)
    """By owner, in seconds since 1970."""


@attrs.define(eq=False)
class DiskReadings:
    """Reads the figures; a watcher."""

    journal: Path
    reads_records: bool
    """Whether the age of records counts: they are to leave the journal."""
    certificates: Sequence[tuple[str, Path]] = ()
    """Files of certificates, each with its owner."""
    runner: Runner = in_thread
    found: DiskFigures = attrs.field(factory=DiskFigures, init=False)

    async def watch(self) -> None:
        """Read until cancelled."""
        while True:
            self.found = await self.runner(partial(self.read, list(self.certificates)))
            await anyio.sleep(PAUSE)

    def read(self, certificates: Sequence[tuple[str, Path]]) -> DiskFigures:
        """Read once; blocks."""
        found = DiskFigures(oldest=self._oldest())
        with suppress(OSError):
            sizes = [path.stat().st_size for path in self._files() if path.exists()]
            found = attrs.evolve(found, journal_bytes=sum(sizes))
        with suppress(OSError):
            disk = os.statvfs(self.journal.parent)
            found = attrs.evolve(
                found,
                free_bytes=disk.f_bavail * disk.f_frsize,
                size_bytes=disk.f_blocks * disk.f_frsize,
            )
        ends: dict[str, float] = {}
        for owner, path in certificates:
            with suppress(OSError, NoCertificate):
                ends[owner] = end_of(path.read_bytes())
        return attrs.evolve(found, certificate_ends=ends)

    def _files(self) -> list[Path]:
        return [self.journal.with_name(self.journal.name + suffix) for suffix in SUFFIXES]

    def _oldest(self) -> float | None:
        if not self.reads_records:
            return None
        with suppress(JournalError, ValueError, KeyError, TypeError):
            for record in first_records(self.journal, 1):
                document = parsed(record.document)
                began = datetime.fromisoformat(document["started_at"]).timestamp()
                return began + float(document["duration_ms"]) / 1000
        return None


def age_of(moment: float | None) -> float:
    """Return the seconds since a moment; 0 for none, and for one that is to come."""
    return 0.0 if moment is None else max(0.0, time.time() - moment)
