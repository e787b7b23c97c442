"""The store in PostgreSQL: rights, foreign rows, and outages."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import attrs
import pytest

from ollama_gateway.errors import GatewayError
from ollama_gateway.keys.cache import KeyCache
from ollama_gateway.keys.identifying import find_key, open_keys
from ollama_gateway.keys.key import KeyRefused, StoreAway, StoreError, digest_of, generate
from ollama_gateway.keys.location import PostgresLocation, SQLiteLocation, location_of
from ollama_gateway.keys.postgres import PostgresKeys
from ollama_gateway.keys.store import ImportedKey
from ollama_gateway.storage.database import Timeouts
from ollama_gateway.storage.postgres import Database
from tests.keys.stores import found
from tests.support.postgres_server import PostgresServer

GATEWAY = "SELECT ON gateway_keys, gateway_key_secrets, gateway_migrations"
OPERATOR = (
    "SELECT ON gateway_migrations",
    "SELECT, INSERT, UPDATE ON gateway_keys",
    "SELECT, INSERT, UPDATE, DELETE ON gateway_key_secrets",
)
"""What docs/operate/configuration.md says that each role needs."""


@pytest.fixture
def keys(database_url: str) -> Iterator[PostgresKeys]:
    """The store in a database for this test alone."""
    with closing(PostgresKeys(Database(database_url))) as opened:
        yield opened


@pytest.fixture
def name(database_url: str) -> str:
    """That database's name."""
    return database_url.rpartition("/")[2]


async def status(cache: KeyCache, text: str) -> int:
    """Return the status for a client with this credential."""
    try:
        await cache.identify(text)
    except GatewayError as error:
        return error.status
    return 200


def forget_freshness(cache: KeyCache) -> None:
    """Let the next use of every key ask the store, as it would 0.8 s later."""
    for digest, seen in cache._seen.items():
        cache._seen[digest] = attrs.evolve(seen, ask_again_at=0.0)


def test_a_gateway_may_be_given_a_role_that_only_reads(
    postgres: PostgresServer, keys: PostgresKeys, name: str
) -> None:
    """It finds keys and checks the schema; the refusal of a change names its rights."""
    key, text = keys.create("ci")
    url = postgres.make_role("gateway", name, GATEWAY)
    with closing(PostgresKeys(Database(url))) as reader:
        reader.check()
        assert found(reader, text) == [key]
        assert reader.count_active() == 1
        with pytest.raises(StoreError, match="lacks a right"):
            reader.revoke("ci")


def test_an_operator_needs_no_more_than_is_written_down(
    postgres: PostgresServer, name: str
) -> None:
    """Every command works with the rights that the documentation lists, none on the schema."""
    url = postgres.make_role("operator", name, *OPERATOR)
    with closing(PostgresKeys(Database(url))) as operator:
        operator.check()
        _, first = operator.create("ci")
        operator.update("ci", name="cd")
        _, second = operator.rotate("cd")
        operator.add_imported([ImportedKey("legacy", "sk-legacy-0123456789abcdef", 1)])
        assert operator.merge(operator.stored()).added == ()
        assert found(operator, first, second) == [None, operator.get("cd")]
        operator.revoke("cd")
        assert [key.name for key in operator.list()] == ["cd", "legacy"]


def test_no_table_holds_a_key(postgres: PostgresServer, keys: PostgresKeys, name: str) -> None:
    """The tables have the digest, and neither the text nor its secret."""
    _, text = keys.create("ci")
    tables = ("gateway_keys", "gateway_key_secrets")
    content = str([postgres.execute(f"TABLE {table}", name) for table in tables])
    assert digest_of(text) in content
    assert text.split("_")[2] not in content


@pytest.mark.parametrize(
    "garbage",
    [
        "models = '{}'",
        "models = '{\"a b\"}'",
        "models = '{NULL}'",
        "models = '{{a,b},{c,d}}'",
        "endpoints = '{all}'",
        "name = E'two\\nlines'",
        "name = ''",
        "tokens_per_day = -1",
        "requests_per_minute = 9000000000000000000",
        "created_at = 'infinity'",
        "expires_at = '20000-01-01'",
        "revoked_at = '0044-03-15 BC'",
    ],
)
def test_a_row_that_something_else_wrote_is_an_error_of_the_store(
    postgres: PostgresServer, keys: PostgresKeys, name: str, garbage: str
) -> None:
    """Unreadable rights grant nothing and give one line, and the store goes on."""
    _, text = keys.create("ci")
    _, other = keys.create("other")
    postgres.execute(f"UPDATE gateway_keys SET {garbage} WHERE name = 'ci'", name)  # noqa: S608
    with pytest.raises(StoreError) as caught:
        found(keys, text)
    assert str(caught.value).isprintable()
    assert found(keys, other)[0] is not None


def test_a_name_that_something_else_took_is_taken(
    postgres: PostgresServer, keys: PostgresKeys, name: str
) -> None:
    """The rules count every row, whichever program wrote it."""
    keys.create("ci")
    insert = "INSERT INTO gateway_keys (id, name, models, endpoints, created_at)"
    postgres.execute(f"{insert} VALUES ('a', 'cd', '{{*}}', '{{read}}', now())", name)
    with pytest.raises(KeyRefused, match="name 'cd' is taken by key a"):
        keys.update("ci", name="cd")


def test_tables_that_are_missing_name_the_command(postgres: PostgresServer) -> None:
    """The error names the command, also after a start without the database."""
    with (
        postgres.fresh_database("template0") as name,
        closing(PostgresKeys(Database(postgres.url_of(name)))) as keys,
    ):
        for use in (keys.check, keys.list, lambda: keys.find(["x"])):
            with pytest.raises(StoreError, match="run `gatewayctl db migrate`"):
                use()


def test_somebody_who_holds_the_lock_holds_up_changes_alone(
    postgres: PostgresServer, database_url: str
) -> None:
    """While another client holds the lock, look-ups go on, and a change gives up with a line."""
    short = Database(database_url, Timeouts(lock=0.1))
    with (
        closing(PostgresKeys(Database(database_url))) as holder,
        closing(PostgresKeys(short)) as other,
    ):
        key, text = holder.create("ci")
        with holder._change():
            assert found(other, text) == [key]
            with pytest.raises(StoreAway, match="held a lock for too long"):
                other.create("cd")
        assert other.create("cd")[0].name == "cd"


async def test_an_outage_refuses_nobody_who_is_known(own_postgres: PostgresServer) -> None:
    """Known keys work, unknown ones get 503, never 401; with the server, everything is back."""
    location = PostgresLocation(own_postgres.url_of("migrated"))
    with closing(location.open()) as store:
        _, known = store.create("known")
        _, unknown = store.create("unknown")
    async with open_keys(location) as cache:
        assert await status(cache, known) == 200
        own_postgres.stop()
        forget_freshness(cache)
        assert [await status(cache, text) for text in (known, unknown)] == [200, 503]
        assert cache.statistics().store_failing
        assert cache.statistics().usable == 1
        assert await status(cache, "ogw_x") == 401
        own_postgres.start()
        assert [await status(cache, text) for text in (unknown, known)] == [200, 200]
        assert await status(cache, generate().text) == 401
        assert not cache.statistics().store_failing


async def test_a_restart_between_two_look_ups_is_not_noticed(own_postgres: PostgresServer) -> None:
    """A connection that died while idle causes no 503."""
    location = PostgresLocation(own_postgres.url_of("migrated"))
    with closing(location.open()) as store:
        texts = [store.create(f"key-{n}")[1] for n in range(3)]
    async with open_keys(location) as cache:
        assert await status(cache, texts[0]) == 200
        own_postgres.restart()
        assert await status(cache, texts[1]) == 200
        own_postgres.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'ollama-gateway'"
        )
        assert await status(cache, texts[2]) == 200


async def test_an_operator_s_look_up_uses_the_same_store(
    postgres: PostgresServer, keys: PostgresKeys, database_url: str
) -> None:
    """`/limits` and `/explain` look up by id or name."""
    key, _ = keys.create("ci")
    location = PostgresLocation(database_url)
    assert [await find_key(location, wanted) for wanted in (key.id, "ci")] == [key, key]
    with pytest.raises(KeyRefused):
        await find_key(location, "x")
    away = PostgresLocation(postgres.url_of("nowhere"))
    with pytest.raises(GatewayError) as caught:
        await find_key(away, key.id)
    assert caught.value.status == 503


def test_the_settings_say_which_store() -> None:
    """The database if one is given, else the file; neither shows credentials."""
    directory = Path("/data")
    assert location_of(directory, None) == SQLiteLocation(directory / "keys.db")
    location = location_of(directory, "postgresql://u:hush@h/gw")
    assert (str(location), repr(location)) == ("postgresql (h/gw)", "PostgresLocation()")
    assert str(location_of(directory, "no url")) == "postgresql"
    with pytest.raises(StoreError, match="cannot be understood"):
        PostgresLocation("no url").open()
