"""The cost of reading millions of audit records in PostgreSQL, for `tests/bench/size.py`.

The records are of 40 days, 8 journals, 200 keys with 5 end users and 3 models each. They are there
before the daily sums, so the migration is measured as well.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from ollama_gateway.ledger.postgres import UPKEEP, AuditTable
from ollama_gateway.storage.migrations import MIGRATION_TIMEOUTS, migrate, migrations
from ollama_gateway.storage.postgres import Database
from tests.support.postgres_server import PostgresServer, private_postgres

DAYS: Final = 40
STEP: Final = 200_000
BEFORE_SUMS: Final = 3
"""The version of the schema that has no sums."""
_FILL: Final = """INSERT INTO gateway_audit (request_id, started_at, journal, seq, hash, document,
        key_id, key_name, end_user, endpoint, model, backend, outcome,
        prompt_tokens, completion_tokens, tokens_source)
    SELECT md5(n::text), began, 'journal-' || n % 8, n / 8 + 1, decode(md5(n::text), 'hex'),
        format('{{"request_id":"%s","started_at":"%s","key_id":"%s","key_name":"%s",'
            || '"end_user":"%s","client":"192.0.2.7","endpoint":"/api/chat","dialect":"ollama",'
            || '"model":"%s","backend":"%s","outcome":"%s","reason":null,"status":200,'
            || '"prompt_tokens":%s,"completion_tokens":%s,"tokens_source":"reported",'
            || '"spender":null,"ttft_ms":207.1,"duration_ms":1024.5,"bytes_in":89,'
            || '"bytes_out":5592,"attempts":[{{"backend":"%s","started_ms":0.5,"hedge":false,'
            || '"first_chunk_ms":207.1,"reason":null}}]}}',
            md5(n::text), to_char(began AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"+00:00"'),
            key, 'name-' || key, who, model, backend, outcome, prompt, answer, backend),
        key, 'name-' || key, who, '/api/chat', model, backend, outcome, prompt, answer, 'reported'
    FROM (SELECT n, began, 'k' || k AS key, 'user-' || k || '-' || u AS who,
            'model-' || (k + m) % 20 || ':latest' AS model, 'gpu-' || (m + b) % 10 AS backend,
            CASE WHEN r < 0.97 THEN 'completed' ELSE 'client_gone' END AS outcome,
            (r * 1000)::int AS prompt, (r * 500)::int AS answer
        FROM (SELECT n, timestamptz '{begin}' + n * interval '{gap} microseconds' AS began,
                (random() * 199)::int AS k, (random() * 4)::int AS u, (random() * 2)::int AS m,
                (random() * 2)::int AS b, random() AS r
            FROM generate_series({first}, {last}) AS n OFFSET 0) AS drawn) AS made"""


def measure_postgres(records: int) -> None:
    """Fill a private PostgreSQL with records, and print what the commands take."""
    options = {"shared_buffers": "512MB", "max_wal_size": "4GB", "autovacuum": "on"}
    with (
        private_postgres(**options) as server,
        server.fresh_database("template0") as name,
        tempfile.TemporaryDirectory() as directory,
    ):
        with _timed(f"filling in {records:,} records"):
            _fill(server, name, records)
        run = _Commands(server.url_of(name), Path(directory))
        run("db", "migrate")
        for _ in range(2):
            run("usage", "--since", "30d", "--by", "key", "--json")
            run("usage", "--since", "30d", "--by", "key,day", "--json")
            run("usage", "--by", "model", "--per", "month", "--csv")
            run("audit", "list", "--key", "k7", "--limit", "20", "--json")
            run("audit", "list", "--key", "name-k7", "--limit", "20", "--json")
        run("audit", "export", "--since", f"{datetime.now(UTC) - timedelta(days=1):%Y-%m-%d}")
        run("audit", "verify", "--sums")
        run("db", "rebuild-usage")


class _Commands:
    """Runs `gatewayctl` with a database, and prints the time of each command."""

    def __init__(self, url: str, directory: Path) -> None:
        given = {"GATEWAY_STORAGE_DATABASE_URL": url, "GATEWAY_STORAGE_DATA_DIR": str(directory)}
        self._environment = {**os.environ, **given}

    def __call__(self, *arguments: str) -> None:
        with _timed(" ".join(arguments)):
            command = [sys.executable, "-m", "ollama_gateway", *arguments]
            done = subprocess.run(
                command, env=self._environment, check=False, capture_output=True, text=True
            )
        _say(f"    exit code {done.returncode}, {len(done.stdout):,} characters", done.stderr)


def _fill(server: PostgresServer, name: str, records: int) -> None:
    begin = datetime.now(UTC) - timedelta(days=DAYS)
    with closing(Database(server.url_of(name), MIGRATION_TIMEOUTS)) as database:
        migrate(database, migrations()[:BEFORE_SUMS])
    with closing(AuditTable(server.url_of(name), UPKEEP)) as table:
        table.make_partitions(begin)
    gap = DAYS * 86_400_000_000 // records
    for first in range(0, records, STEP):
        last = min(first + STEP, records) - 1
        server.execute(_FILL.format(begin=begin, gap=gap, first=first, last=last), name)


@contextmanager
def _timed(what: str) -> Iterator[None]:
    before = time.perf_counter()
    yield
    _say(f"{what}: {time.perf_counter() - before:.2f} s")


def _say(*lines: str) -> None:
    for line in lines:
        sys.stdout.write(f"{line.rstrip()}\n" if line.strip() else "")
    sys.stdout.flush()


if __name__ == "__main__":
    measure_postgres(int(sys.argv[1]))
