"""Gateways of several machines with their keys in one PostgreSQL, as real processes."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import attrs
import pytest

from ollama_gateway.keys.key import KeyLimits, generate
from ollama_gateway.keys.sqlite import SQLiteKeys
from tests.smoke.asking import ask
from tests.smoke.fleet import Fleet, ctl, fleet
from tests.support.patience import wait_until
from tests.support.postgres_server import PostgresServer


@attrs.frozen
class Shared:
    """Two gateways that share only a database."""

    server: PostgresServer
    fleet: Fleet

    def statuses(self, key: str) -> list[int]:
        """Return the status of each gateway for this key."""
        return [status(gateway.port, key) for gateway in self.fleet.gateways]


@pytest.fixture
def shared(own_postgres: PostgresServer, tmp_path: Path) -> Iterator[Shared]:
    """Run two gateways with this database."""
    url = own_postgres.url_of("migrated")
    machines = [tmp_path / "a", tmp_path / "b"]
    with fleet(machines, GATEWAY_STORAGE_DATABASE_URL=url) as started:
        yield Shared(own_postgres, started)


def status(port: int, key: str) -> int:
    """Return the status of a listing with a key."""
    return ask(port, "/api/tags", key).status


def test_a_change_reaches_every_machine(shared: Shared, tmp_path: Path) -> None:
    """A new key works on both machines at once, a revoked one soon on neither; no files."""
    made = shared.fleet.ctl_json("keys", "create", "ci")
    assert shared.statuses(made["key"]) == [200, 200]
    assert shared.fleet.ctl("keys", "update", "ci", "--endpoints", "inference").returncode == 0
    wait_until(lambda: shared.statuses(made["key"]) == [403, 403])
    revoked = ctl("keys", "revoke", "ci", environment=shared.fleet.gateways[1].environment)
    assert revoked.returncode == 0
    wait_until(lambda: shared.statuses(made["key"]) == [401, 401])
    assert list(tmp_path.rglob("keys.db")) == []
    for gateway in shared.fleet.gateways:
        line = json.loads(gateway.process.wait_for('"event": "keys"'))
        assert (line["store"], line["active"]) == ("postgresql (127.0.0.1/migrated)", 1)


def health_while_asked(shared: Shared, key: str) -> str:
    """Return the output of `gatewayctl health` after a request, which shows the store's state."""
    with ThreadPoolExecutor(1) as pool:
        result = pool.submit(shared.fleet.ctl, "health")
        wait_until(lambda: shared.statuses(key) == [503, 503] and result.done())
    return result.result().stdout


def test_an_outage_is_survived(shared: Shared) -> None:
    """While the database is down, known keys work and others get 503; afterwards all work."""
    known, text = shared.fleet.key, generate().text
    assert shared.statuses(known) == [200, 200]
    assert shared.statuses(text) == [401, 401]
    shared.server.stop()
    assert shared.statuses(text) == [503, 503]
    began = time.monotonic()
    while time.monotonic() < began + 1:  # longer than the last finding counts as fresh
        assert shared.statuses(known) == [200, 200]
    for gateway in shared.fleet.gateways:
        ready = ask(gateway.admin_port, "/readyz")
        body = ready.document
        assert (ready.status, body["ready"], body["reasons"]) == (200, True, [])
        assert body["degraded"] == ["the key store does not answer: known keys only"]
    assert "ready, the key store" in health_while_asked(shared, text)
    assert shared.fleet.ctl("keys", "list").returncode == 1
    shared.server.start()
    _, new = shared.fleet.create_key("new", KeyLimits())
    assert shared.statuses(new) == [200, 200]
    assert shared.statuses(text) == [401, 401]
    assert ask(shared.fleet.gateways[0].admin_port, "/readyz").document["degraded"] == []


def test_a_database_that_hangs_holds_up_no_known_key(shared: Shared) -> None:
    """If the database hangs, unknown keys get 503, and a gateway still ends."""
    known, text = shared.fleet.key, generate().text
    assert shared.statuses(known) == [200, 200]
    shared.server.hang()
    try:
        assert shared.statuses(text) == [503, 503]
        assert shared.statuses(known) == [200, 200]
        assert shared.fleet.gateway.stop() == 0
    finally:
        shared.server.resume()
    wait_until(lambda: status(shared.fleet.gateways[1].port, text) == 401)


def test_a_gateway_starts_while_the_database_is_away(shared: Shared) -> None:
    """Without the database a gateway starts but is not ready, and serves once it is back."""
    shared.server.stop()
    shared.fleet.restart(0, signal.SIGTERM)
    gateway = shared.fleet.gateways[0]
    line = gateway.process.wait_for('"event": "keys"')
    assert "PostgreSQL cannot be reached; until it is back, requests get 503" in line
    assert status(gateway.port, shared.fleet.key) == 503
    ready = ask(gateway.admin_port, "/readyz")
    assert (ready.status, ready.document["reasons"]) == (503, ["the key store does not answer"])
    shared.server.start()
    wait_until(lambda: status(gateway.port, shared.fleet.key) == 200)


def test_keys_of_a_machine_move_into_the_database(
    own_postgres: PostgresServer, tmp_path: Path
) -> None:
    """After `db migrate` and `db import-local` a key of the file works on the new gateways."""
    with closing(SQLiteKeys(tmp_path / "keys.db")) as local:
        _, text = local.create("old friend")
    own_postgres.execute("CREATE DATABASE new")
    url = own_postgres.socket_url_of("new")
    settings = {"GATEWAY_STORAGE_DATA_DIR": str(tmp_path), "GATEWAY_STORAGE_DATABASE_URL": url}
    refused = ctl("serve", environment=settings)
    assert refused.returncode == 1
    reason = json.loads(refused.stderr.splitlines()[-1])["reason"]
    assert reason.endswith(": run `gatewayctl db migrate`")
    for command in ("migrate", "import-local"):
        assert ctl("db", command, environment=settings).returncode == 0
    with fleet(tmp_path, GATEWAY_STORAGE_DATABASE_URL=url) as started:
        assert status(started.port, text) == 200
