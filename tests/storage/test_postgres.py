"""One connection to a PostgreSQL that restarts, hangs and fails in every way."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing

import pytest

from ollama_gateway.storage.postgres import AWAY, LOST, NO_URL, Database
from tests.smoke.fleet import PATIENCE, free_port
from tests.support.postgres_connection import SECRET, SHORT, ask, failure
from tests.support.postgres_server import PostgresServer, private_postgres

USER = "somebody_secret"


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """A database for this test alone."""
    with closing(Database(database_url)) as opened:
        yield opened


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """A server that a test may stop if it starts it again."""
    with private_postgres() as started:
        started.execute(f"CREATE ROLE {USER} LOGIN PASSWORD '{SECRET}'")
        yield started


def end_all(server: PostgresServer) -> None:
    """End every connection but this one, as an operator would."""
    server.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
    )


def test_what_is_done_in_a_block_is_there_after_it(database: Database) -> None:
    """Each block is one transaction, all over one connection."""
    ask(database, "CREATE TABLE t (x integer)")
    first = ask(database, "SELECT pg_backend_pid()")
    ask(database, "INSERT INTO t VALUES (7)")
    assert ask(database, "SELECT x FROM t") == 7
    assert ask(database, "SELECT pg_backend_pid()") == first


def test_a_block_that_raises_leaves_nothing(database: Database) -> None:
    """The block's exception leaves unchanged, and the connection stays."""
    ask(database, "CREATE TABLE t (x integer)")
    first = ask(database, "SELECT pg_backend_pid()")

    def insert_and_fail() -> None:
        with database.transaction() as cursor:
            cursor.execute("INSERT INTO t VALUES (7)")
            raise LookupError

    with pytest.raises(LookupError):
        insert_and_fail()
    assert ask(database, "SELECT count(*) FROM t") == 0
    assert ask(database, "SELECT pg_backend_pid()") == first


def test_limits_travel_with_the_transaction(postgres: PostgresServer, database: Database) -> None:
    """The session keeps no setting, as a pgbouncer gives it to other clients."""
    with database.transaction() as cursor:
        cursor.execute("SELECT current_setting('statement_timeout')")
        assert cursor.fetchone() == ("2s",)
        cursor.execute("SELECT current_setting('lock_timeout')")
        assert cursor.fetchone() == ("1s",)
        cursor.execute("COMMIT")
        cursor.execute("SELECT current_setting('statement_timeout')")
        assert cursor.fetchone() == ("0",)
        cursor.execute("SELECT count(*) FROM pg_prepared_statements")
        assert cursor.fetchone() == (0,)


def test_a_socket_directory_may_be_named(postgres: PostgresServer) -> None:
    """`?host=/dir`, with nothing listening anywhere else."""
    with closing(Database(postgres.socket_url_of("migrated"))) as database:
        assert ask(database, "SELECT inet_client_addr() IS NULL") is True


@pytest.mark.parametrize(
    ("url", "label"),
    [
        (f"postgresql://{USER}:{SECRET}@db.example:5433/gw?sslmode=require", "db.example/gw"),
        (f"postgresql://{USER}:{SECRET}@a,b/gw", "a,b/gw"),
        (f"postgresql:///gw?host=/run/pg&password={SECRET}", "/run/pg/gw"),
        (f"postgres://u:{SECRET}@h", "h"),
        (f"postgresql://{USER}:a:{SECRET}@[::1]:5432", "[::1]"),
        (f"postgresql://h/x?dbname=postgresql%3A%2F%2Fu%3A{SECRET}%40h", "h/?"),
    ],
)
def test_a_label_says_where_and_not_how(url: str, label: str) -> None:
    """The label has the host and the database, never the credentials."""
    database = Database(url)
    assert (database.label, repr(database)) == (label, f"<Database {label}>")


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://%ff:{SECRET}@h/x",
        f"postgresql://u:pa ss{SECRET}@h/x",
        f"postgresql://h/x?no={SECRET}",
        f"{SECRET}://h/x",
        "",
    ],
)
def test_a_url_that_is_none_is_not_repeated(url: str) -> None:
    """The error does not repeat a bad URL, as it may hold a password."""
    if url:
        assert str(failure(lambda: Database(url))) == NO_URL


@pytest.mark.parametrize(
    "rest",
    [
        "a..b/x",
        f"{'a' * 70}.example/x",
        "127.0.0.1:99999/x",
        "127.0.0.1:1/x?sslmode=maybe",
        "127.0.0.1:1/x?connect_timeout=soon",
        "127.0.0.1:1/x?tcp_user_timeout=soon",
    ],
)
def test_what_no_server_can_be_found_by_will_not_pass(rest: str) -> None:
    """libpq's parser lets such a URL through, so it is checked before anything connects."""
    error = failure(lambda: Database(f"postgresql://{USER}:{SECRET}@{rest}"))
    assert (str(error), error.is_away) == (NO_URL, False)


def test_a_refusal_says_which(server: PostgresServer) -> None:
    """A bad password, role or database each have their own line, and are permanent."""
    wrong = {
        server.url_of("postgres", USER, "wrong"): "PostgreSQL refuses the user or the password",
        server.url_of("postgres", "nobody_here", SECRET): (
            "PostgreSQL refuses the user or the password"
        ),
        server.url_of("postgres", USER): "PostgreSQL asks for a password, and the URL has none",
        server.socket_url_of("nowhere"): "PostgreSQL has no database of this name",
        server.url_of("nowhere", USER, SECRET): "PostgreSQL has no database of this name",
        server.socket_url_of("postgres", "nobody_here"): (
            "PostgreSQL refuses the user or the password"
        ),
    }
    for url, line in wrong.items():
        with closing(Database(url)) as database:
            error = failure(lambda database=database: ask(database))  # type: ignore[misc]
        assert (str(error), error.is_away) == (line, False)


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://{USER}:{SECRET}@127.0.0.1:{free_port()}/x",
        f"postgresql://{USER}:{SECRET}@/x?host=/nowhere",
        f"postgresql://{USER}:{SECRET}@no-such-host.invalid/x",
    ],
    ids=["refused", "no socket", "no name"],
)
def test_a_server_that_is_not_there_is_away(url: str) -> None:
    """The failure may pass, and the line names neither host nor user."""
    with closing(Database(url)) as database:
        error = failure(lambda: ask(database))
    assert (str(error), error.is_away) == (AWAY, True)


def test_an_end_between_two_uses_is_not_noticed(server: PostgresServer) -> None:
    """A server's restart, or an operator's pg_terminate_backend, costs a new connection."""
    with closing(Database(server.url)) as database:
        first = ask(database, "SELECT pg_backend_pid()")
        end_all(server)
        second = ask(database, "SELECT pg_backend_pid()")
        server.restart()
        third = ask(database, "SELECT pg_backend_pid()")
        assert len({first, second, third}) == 3


def test_an_end_in_the_middle_is_an_error_and_the_next_use_works(server: PostgresServer) -> None:
    """The transaction is undone, and the error does not claim an unknown outcome."""
    with closing(Database(server.url)) as database:
        ask(database, "CREATE TABLE ended (x integer)")

        def use() -> None:
            with database.transaction() as cursor:
                cursor.execute("INSERT INTO ended VALUES (1)")
                end_all(server)
                cursor.execute("INSERT INTO ended VALUES (2)")

        error = failure(use)
        assert (str(error), error.is_away) == ("PostgreSQL is being stopped or started", True)
        assert ask(database, "SELECT count(*) FROM ended") == 0


def test_an_end_before_the_commit_leaves_the_outcome_open(server: PostgresServer) -> None:
    """If the connection ends during the commit, the error says that the outcome is unknown."""
    with closing(Database(server.url)) as database:

        def use() -> None:
            with database.transaction() as cursor:
                cursor.execute("SELECT 1")
                end_all(server)

        assert str(failure(use)).endswith(": the outcome is unknown")
        assert ask(database) == 1


def test_a_stopped_server_is_away_until_it_is_back(server: PostgresServer) -> None:
    """The same object works again without intervention."""
    with closing(Database(server.url)) as database:
        assert ask(database) == 1
        server.stop()
        try:
            assert str(failure(lambda: ask(database))) == AWAY
        finally:
            server.start()
        assert ask(database) == 1


def test_a_server_that_hangs_is_given_up_on(server: PostgresServer) -> None:
    """The wait ends a second after the statement's limit, within a transaction and at its begin."""
    with closing(Database(server.url, SHORT)) as database:

        def use() -> None:
            with database.transaction() as cursor:
                server.hang()
                cursor.execute("SELECT 1")

        try:
            began = time.monotonic()
            assert str(failure(use)) == LOST
            assert time.monotonic() - began < PATIENCE
            error = failure(lambda: ask(database))
            assert (str(error), error.is_away) == (AWAY, True)
        finally:
            server.resume()
        assert ask(database) == 1


def test_a_server_that_hangs_between_two_uses_is_given_up_on(server: PostgresServer) -> None:
    """The old connection gets its time limit, then a new one that of connecting."""
    with closing(Database(server.url, SHORT)) as database:
        assert ask(database) == 1
        server.hang()
        try:
            began = time.monotonic()
            assert str(failure(lambda: ask(database))) == AWAY
            assert time.monotonic() - began < PATIENCE
        finally:
            server.resume()
        assert ask(database) == 1


def test_a_closed_database_says_so(database: Database) -> None:
    """A closed database does not connect again."""
    database.close()
    database.close()
    assert str(failure(lambda: ask(database))) == "the connection to PostgreSQL is closed"
