"""Records of requests whose process was killed carry what their keys' budgets are charged."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest

from ollama_gateway.ledger.document import Document
from ollama_gateway.ledger.journal import Journal
from ollama_gateway.ledger.log import RecordMetrics
from ollama_gateway.ledger.ownership import own_journal, recover
from ollama_gateway.ledger.read.grouping import group_of
from ollama_gateway.ledger.read.usage import dimensions_of, usage
from ollama_gateway.limits.usage_file import UsageFile
from ollama_gateway.limits.usage_journal import UsageJournal, open_usage_journal
from ollama_gateway.metrics import Metrics
from ollama_gateway.storage.batcher import in_place
from tests.ledger.records import KEY, final, intent, stored
from tests.limits.spent import MONTH, TODAY, now


@attrs.frozen
class Process:
    """The files of a gateway."""

    journal: Journal
    usage_journal: UsageJournal

    async def work(self, *names: str) -> None:
        """Admit requests of a key with a budget."""
        for name in names:
            self.usage_journal.begin(name, "id", TODAY, 100)
        await self.usage_journal.write()
        self.journal.commit([intent(name) for name in names])


@contextmanager
def process(directory: Path) -> Iterator[Process]:
    """Open the files of a process that ends as if it were killed."""
    with (
        own_journal(directory, is_strict=True, key=KEY) as journal,
        closing(UsageFile(directory, MONTH)) as file,
    ):
        yield Process(journal, UsageJournal(file, in_place))


def records(directory: Path, number: int = 0) -> dict[str, Any]:
    """Return the finished records of a journal."""
    links = stored(directory / f"journal-{number}.db")
    return {link.request_id: json.loads(link.document) for link in links}


def tokens(record: Document) -> tuple[Any, ...]:
    """Return the tokens of a record and their source."""
    return record["prompt_tokens"], record["completion_tokens"], record["tokens_source"]


@pytest.mark.parametrize("is_charged_first", [False, True])
async def test_a_killed_record_carries_its_charge(
    tmp_path: Path, *, is_charged_first: bool
) -> None:
    """That holds whether the usage journal was recovered before the journal or not."""
    with process(tmp_path) as dying:
        await dying.work("told", "untold", "ended")
        dying.usage_journal.note_charges({"told": (7, 5)})
        dying.usage_journal.end("ended", 30)
        await dying.usage_journal.write()
        dying.journal.commit([intent("without a budget"), final("ended")])
    if is_charged_first:
        async with open_usage_journal(tmp_path, runner=in_place, now=now) as usage_journal:
            charged = usage_journal.totals()["id"][TODAY]
            with own_journal(tmp_path, is_strict=True, key=KEY) as journal:
                assert len(journal.killed) == 3
    else:
        with own_journal(tmp_path, is_strict=True, key=KEY):
            pass
        async with open_usage_journal(tmp_path, runner=in_place, now=now) as usage_journal:
            charged = usage_journal.totals()["id"][TODAY]

    found = records(tmp_path)
    assert tokens(found["told"]) == (7, 5, "counted")
    assert tokens(found["untold"]) == (100, 0, "counted")
    assert tokens(found["without a budget"]) == (None, None, None)
    assert {found[name]["outcome"] for name in ("told", "untold")} == {"killed"}
    killed = [record for record in found.values() if record["outcome"] == "killed"]
    (sums,) = usage((group_of(record, dimensions_of(["key"])) for record in killed), ["key"])
    assert sums.total_tokens == sums.counted_tokens == charged - 30


async def test_a_recovered_journal_has_them_too(tmp_path: Path) -> None:
    """Another process ends the requests of the dead one, and counts their records."""
    metrics = Metrics()
    async with open_usage_journal(tmp_path, runner=in_place, now=now) as living:
        living.begin("lives", "id", TODAY, 100)
        await living.write()
        with own_journal(tmp_path, is_strict=True, key=KEY) as own:
            own.commit([intent("lives")])
            with process(tmp_path) as dying:
                assert dying.journal.path.name == "journal-1.db"
                await dying.work("a", "b")
                dying.usage_journal.note_charges({"a": (7, 5)})
                await dying.usage_journal.write()
            assert recover(tmp_path, key=KEY, note=RecordMetrics(metrics).killed) == []

    found = records(tmp_path, 1)
    assert {name: tokens(record) for name, record in found.items()} == {
        "a": (7, 5, "counted"),
        "b": (100, 0, "counted"),
    }
    line = b'requests_total{backend="-",endpoint="/api/chat",model="-",outcome="killed"} 2.0'
    assert line in metrics.page()


async def test_a_usage_journal_that_cannot_be_read(tmp_path: Path) -> None:
    """Without a readable usage journal the record is written without tokens."""
    with process(tmp_path) as dying:
        await dying.work("a")
    (tmp_path / "budgets-0.db").write_bytes(b"no database" * 99)
    with own_journal(tmp_path, is_strict=True, key=KEY) as journal:
        assert [tokens(record) for record in journal.killed] == [(None, None, None)]
