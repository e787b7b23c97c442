"""One audit log of two machines whose gateways share only a PostgreSQL."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.smoke.asking import CHAT, ask
from tests.smoke.fleet import Fleet, Gateway, ctl, fleet
from tests.support.patience import wait_until
from tests.support.postgres_server import PostgresServer


@pytest.fixture
def machines(postgres: PostgresServer, database_url: str, tmp_path: Path) -> Iterator[Fleet]:
    """Run two gateways, each with its own data directory."""
    directories = [tmp_path / "a", tmp_path / "b"]
    with fleet(directories, GATEWAY_STORAGE_DATABASE_URL=database_url) as started:
        yield started


def chat(gateway: Gateway, key: str) -> str:
    """Run a chat and return the request id."""
    return ask(gateway.port, "/api/chat", key, CHAT).request_id


def listed(gateway: Gateway) -> list[dict[str, Any]]:
    """Return the records that `audit list --json` prints on a machine."""
    done = ctl("audit", "list", "--json", environment=gateway.environment)
    assert (done.returncode, done.stderr) == (0, "")
    return [json.loads(line) for line in done.stdout.splitlines()]


def in_postgres(server: PostgresServer, url: str) -> int:
    """Return the number of records in PostgreSQL."""
    [(count,)] = server.execute("SELECT count(*) FROM gateway_audit", url.rpartition("/")[2])
    return int(count)


def test_either_machine_has_the_whole_audit_log(
    machines: Fleet, postgres: PostgresServer, database_url: str
) -> None:
    """Both machines list, sum, show and verify all records, and name one altered in PostgreSQL."""
    one, other = machines.gateways
    seen = [chat(gateway, machines.key) for gateway in (one, other, one)]
    wait_until(lambda: len(listed(one)) == len(seen))
    for gateway, foreign in ((one, seen[1]), (other, seen[0])):
        records = listed(gateway)
        used = ctl("usage", "--json", environment=gateway.environment)
        result = ctl("audit", "show", foreign, "--json", environment=gateway.environment)

        assert [record["request_id"] for record in records] == seen
        [sums] = json.loads(used.stdout)
        assert sums["requests"] == 3
        assert (
            sums["completion_tokens"] == sum(record["completion_tokens"] for record in records) > 0
        )
        assert json.loads(result.stdout)["request_id"] == foreign

    wait_until(lambda: in_postgres(postgres, database_url) == len(seen))
    assert ctl("audit", "verify", environment=one.environment).returncode == 0
    altered = f"UPDATE gateway_audit SET key_name = 'x' WHERE request_id = '{seen[1]}'"  # noqa: S608
    postgres.execute(altered, database_url.rpartition("/")[2])
    for gateway in (one, other):
        done = ctl("audit", "verify", environment=gateway.environment)
        assert done.returncode == 1
        said = f"record 1 (request {seen[1]}) has columns that contradict its document"
        assert said in done.stderr
