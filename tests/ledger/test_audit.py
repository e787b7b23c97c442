"""The audit services of one process, when they close while the disk hangs."""

from __future__ import annotations

import threading
from pathlib import Path

import anyio.to_thread

from ollama_gateway.ledger import audit as audit_module
from ollama_gateway.ledger.audit import open_audit
from ollama_gateway.ledger.journal import Journal
from ollama_gateway.ledger.ownership import own_journal
from ollama_gateway.storage.batcher import in_thread
from tests.ledger.records import KEY, record


async def test_a_journal_in_which_a_thread_hangs_stays_ours(tmp_path: Path) -> None:
    """Its lock is held as long as that thread may write into it."""
    inside, goes_on = threading.Event(), threading.Event()

    def hang(journal: Journal) -> None:
        with journal._file.alone():
            inside.set()
            goes_on.wait()

    settings = {"is_strict": False, "key": KEY, "keep": 86_400.0, "runner": in_thread}
    async with open_audit(tmp_path, None, **settings) as audit:  # type: ignore[arg-type]
        thread = threading.Thread(target=hang, args=[audit.writer.journal], daemon=True)
        thread.start()
        await anyio.to_thread.run_sync(inside.wait)
        audit.writer.close(record("waits"))
    del audit
    try:
        with own_journal(tmp_path, is_strict=False, key=KEY) as other:
            assert other.path.name == "journal-1.db"
    finally:
        goes_on.set()
        await anyio.to_thread.run_sync(thread.join)
        for kept in audit_module._unclosed:
            kept.close()
        audit_module._unclosed.clear()
