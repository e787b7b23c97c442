"""The cost of a long audit log in a journal: `python -m tests.bench.size --records 1000000`.

A journal is filled with records of 50 keys over 60 days; one key has only the first ten of them.
Commands run as processes of their own, as an operator runs them, while this process owns the
journal and writes a hundred records a second into it; the last column is the longest time for
which another task of this process waited meanwhile. Then the journal is migrated from schema 1.
"""

from __future__ import annotations

import os
import random
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import anyio

from ollama_gateway.ledger.attempted import Attempt
from ollama_gateway.ledger.document import document_of
from ollama_gateway.ledger.journal import Journal, JournalEntry
from ollama_gateway.ledger.record import AuditRecord
from ollama_gateway.ledger.writer import JournalWriter, write_journal
from tests.bench.waiting import LongestWait
from tests.ledger.records import KEY, record

BATCH: Final = 1000
KEYS: Final = 50
DAYS: Final = 60
PAUSE: Final = 0.01
"""Seconds between two records that are written meanwhile."""
RARE: Final = "rare"
"""The key of the first ten records."""
COMMANDS: Final = (
    ("--version",),
    ("usage",),
    ("usage", "--by", "day", "--since", "30d"),
    ("usage", "--model", "llama3.2:3b"),
    ("audit", "list", "--limit", "20"),
    ("audit", "list", "--limit", "20", "--key", "key-7"),
    ("audit", "list", "--limit", "20", "--key", RARE),
    ("audit", "verify"),
)


def fill(path: Path, count: int) -> None:
    """Write a journal of so many records."""
    chance = random.Random(1)  # noqa: S311 - no secret
    began = datetime.now(UTC) - timedelta(days=DAYS)
    step = timedelta(days=DAYS) / count
    with closing(Journal(path, is_strict=False, key=KEY)) as journal:
        for start in range(0, count, BATCH):
            numbers = range(start, min(start + BATCH, count))
            journal.commit([_entry(chance, n, began + n * step) for n in numbers])


async def measure(directory: Path, count: int) -> None:
    """Print the table."""
    sys.stdout.write(f"\n{'an audit log':<48}{'seconds':>8}{'CPU s':>8}{'longest wait ms':>17}\n")
    path = directory / "journal-0.db"
    began = time.perf_counter()
    fill(path, count)
    size = path.stat().st_size / 2**20
    _print(f"{count:,} records, {size:,.0f} MiB: written", time.perf_counter() - began)
    began = time.perf_counter()
    with closing(Journal(path, is_strict=False, key=KEY)) as journal:
        _print("opened by its next owner", time.perf_counter() - began)
        async with write_journal(JournalWriter(journal, is_strict=False)) as writer:
            for command in COMMANDS:
                _print(" ".join(command), *await _timed(command, directory, writer))
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript("DROP TABLE facts; PRAGMA user_version = 1; VACUUM")
    seconds, cpu, _ = await _timed(("usage",), directory, None)
    _print("usage of schema 1", seconds, cpu)
    began = time.perf_counter()
    Journal(path, is_strict=False, key=KEY).close()
    _print("migrated from schema 1, with a copy", time.perf_counter() - began)


async def _timed(
    command: tuple[str, ...], directory: Path, writer: JournalWriter | None
) -> tuple[float, float, float]:
    """Return the seconds and CPU seconds of a command, and the longest wait of a task, in ms."""
    waits, began, spent = LongestWait(), time.perf_counter(), _children()
    async with anyio.create_task_group() as group:
        if writer is not None:
            group.start_soon(waits.watch)
            group.start_soon(_write, writer)
        await _run(command, directory)
        group.cancel_scope.cancel()
    return time.perf_counter() - began, _children() - spent, waits.longest * 1000


def _children() -> float:
    times = os.times()
    return times.children_user + times.children_system


async def _run(command: tuple[str, ...], directory: Path) -> None:
    gatewayctl = str(Path(sys.executable).with_name("gatewayctl"))
    settings = {
        "GATEWAY_STORAGE_DATA_DIR": str(directory),
        "GATEWAY_AUDIT_CHAIN_KEY": KEY.decode(),
    }
    await anyio.run_process(
        [gatewayctl, *command],
        env={**os.environ, **settings},
        stdout=subprocess.DEVNULL,
        stderr=None,
    )


async def _write(writer: JournalWriter) -> None:
    while True:
        made = record(os.urandom(16).hex())
        await writer.admit(made)
        await writer.finalize(made)
        await anyio.sleep(PAUSE)


def _entry(chance: random.Random, number: int, began: datetime) -> JournalEntry:
    key = RARE if number < 10 else f"key-{chance.randrange(KEYS)}"
    made = AuditRecord(
        request_id=f"{chance.getrandbits(128):032x}",
        started_at=began,
        key_id=key,
        key_name=key,
        endpoint="/api/chat",
        dialect="ollama",
        client="192.0.2.7",
        model=chance.choice(("llama3.2:3b", "qwen3:8b", "gemma3:latest")),
        backend=f"gpu-{chance.randrange(8)}",
        outcome=chance.choices(("completed", "refused", "client_gone"), (90, 8, 2))[0],
        status=200,
        prompt_tokens=chance.randrange(2000),
        completion_tokens=chance.randrange(500),
        tokens_source="reported",
        ttft=0.2,
        duration=1.0,
        attempts=[Attempt("gpu-1", 0.001, first_chunk=0.2)],
        arrived=0,
    )
    return JournalEntry(made.request_id, document_of(made), is_final=True)


def _print(what: str, seconds: float, cpu: float | None = None, wait: float | None = None) -> None:
    spent = "" if cpu is None else f"{cpu:>8.2f}"
    waited = "" if wait is None else f"{wait:>17.1f}"
    sys.stdout.write(f"{what:<48}{seconds:>8.2f}{spent}{waited}\n")
    sys.stdout.flush()
