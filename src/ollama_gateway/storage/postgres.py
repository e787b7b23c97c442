"""One connection to PostgreSQL, used by one thread at a time, opened on demand.

psycopg blocks, so callers use this from a thread (see `storage/batcher.py`). Every transaction
carries its own time limits (`SET LOCAL`), and no statement is prepared, so a pgbouncer may stand in
front of the server. A connection on which anything failed is dropped. A connection that died while
idle (a server restart, an idle limit) is replaced without an error: BEGIN notices it first, and
before BEGIN nothing has been done.

The server enforces `statement_timeout`, but a server that hangs does not: so every wait for an
answer also ends here, a second later. TCP's own limits are for a machine that is gone.

The rules: every error leaves here as a `DatabaseError` of one line that holds no text of the
library or the server, and without the library's error as its cause or context: those texts hold
hosts, users, and values from statements.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final, TypeVar

import psycopg
from psycopg.abc import PQGen
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import TupleRow

from ollama_gateway.storage.database import DatabaseError, Timeouts
from ollama_gateway.store_url import StoreURL

Cursor = psycopg.Cursor[TupleRow]
RV = TypeVar("RV")

CONNECTING: Final[dict[str, Any]] = {
    "application_name": "ollama-gateway",
    "connect_timeout": 2,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 5000,
}
"""Parameters of libpq, in seconds, the last in milliseconds; the URL's own take precedence."""
GRACE: Final = 1.0
"""Seconds for the server to report that a statement took too long."""

LAST_PORT: Final = 65_535
_INTEGER: Final = r"\s*[+-]?[0-9]{1,9}\s*"
_INTEGERS: Final = (
    *("connect_timeout", "keepalives", "keepalives_count", "keepalives_idle"),
    *("keepalives_interval", "tcp_user_timeout"),
)
"""Parameters of libpq that are integers."""
_SSL_MODES: Final = {"disable", "allow", "prefer", "require", "verify-ca", "verify-full"}

AWAY: Final = "PostgreSQL cannot be reached"
LOST: Final = "the connection to PostgreSQL was lost"
NEEDS_MIGRATION: Final = "the database lacks tables of this version: run `gatewayctl db migrate`"

NO_URL: Final = "the database's URL cannot be understood"

_BAD_LOGIN: Final = "PostgreSQL refuses the user or the password"
_REFUSALS: Final = {
    "FATAL: +(password authentication failed|role )": _BAD_LOGIN,
    "invalid (sslmode value|port number|integer value)": NO_URL,
    "certificate": "PostgreSQL's certificate, or one that the URL names, cannot be used",
    "fe_sendauth: no password supplied": "PostgreSQL asks for a password, and the URL has none",
    "FATAL: +no pg_hba.conf entry": "PostgreSQL does not let this user in from here",
    'FATAL: +database ".*" does not exist': "PostgreSQL has no database of this name",
}
"""Lines for refused connections, by libpq's English text: it has no code. The rest is `AWAY`."""

_MAY_PASS: Final = {
    "08": LOST,
    "25P03": "PostgreSQL ended a transaction that was left idle",
    "25006": "PostgreSQL is read-only",
    "40": "PostgreSQL gave up a transaction that crossed another one",
    "53": "PostgreSQL has no room: connections, memory or disk",
    "55P03": "PostgreSQL: something else held a lock for too long",
    "57014": "PostgreSQL took too long",
    "57P": "PostgreSQL is being stopped or started",
    "58": "PostgreSQL cannot use its disk",
}
"""By the beginning of a SQLSTATE: failures that may pass by themselves."""
_WILL_STAY: Final = {
    "42501": "the role in the database's URL lacks a right that this needs",
    "42P01": NEEDS_MIGRATION,
    "42P07": "the database has a table of the same name already, from something else",
    "42703": NEEDS_MIGRATION,
}


USUAL: Final = Timeouts()


class Database:
    """The database at `url`, over one connection that is opened on first use.

    Raises:
        DatabaseError: the URL cannot be parsed.

    """

    def __init__(self, url: str, timeouts: Timeouts = USUAL) -> None:
        self._parameters = {**CONNECTING, **_parameters(url)}
        self.label: Final = StoreURL.read(url).location
        """`HOST/DATABASE`, for the operator."""
        self._timeouts = timeouts
        self._connection: _Connection | None = None
        self._in_use = threading.Lock()  # an abandoned thread may still be in here
        self._is_closed = False

    def __repr__(self) -> str:
        return f"<Database {self.label}>"

    @contextmanager
    def transaction(self) -> Iterator[Cursor]:
        """Run a transaction: commit at the end of the block, roll back if it raises.

        Raises:
            DatabaseError: something failed; if the message says that the outcome is unknown, all of
                it or nothing is stored.

        """
        with self._alone():
            yield from self._transaction()

    def run_outside(self, statement: bytes) -> None:
        """Run a statement that PostgreSQL refuses in a transaction, such as a concurrent index.

        The server sets it no limits; this waits as long as for any other statement.

        Raises:
            DatabaseError: something failed; such a statement may have left a part of its work.

        """
        failure: DatabaseError | None = None
        with self._alone():
            try:
                self._opened().execute(statement)
            except psycopg.Error as error:
                failure = _described(error, AWAY if self._connection is None else LOST)
                self._drop()
            except BaseException:
                self._drop()
                raise
        if failure is not None:
            raise failure

    def close(self) -> None:
        """Close the connection; later use raises `DatabaseError`.

        A thread that is using it closes it when it is done.
        """
        self._is_closed = True
        if self._in_use.acquire(blocking=False):
            self._drop()
            self._in_use.release()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Admit one thread at a time."""
        if not self._in_use.acquire(timeout=self._timeouts.statement + GRACE):
            raise DatabaseError("the last query to PostgreSQL is still running", is_away=True)
        try:
            yield
        finally:
            if self._is_closed:
                self._drop()
            self._in_use.release()

    def _transaction(self) -> Iterator[Cursor]:
        failure: DatabaseError | None = None
        connection: _Connection | None = None
        try:
            connection = self._begun()
            with connection.cursor() as cursor:
                yield cursor
            failure = _committed(connection)
        except psycopg.Error as error:
            failure = _described(error, AWAY if connection is None else LOST)
        except BaseException:
            self._roll_back()
            raise
        if failure is not None:
            self._drop()
            try:
                raise failure
            finally:
                failure.__context__ = None  # the library's error, which a log might print

    def _begun(self) -> _Connection:
        if self._connection is not None and not self._is_closed:
            try:
                self._connection.execute(self._timeouts.begin())
            except psycopg.Error:
                self._drop()
            else:
                return self._connection
        connection = self._opened()
        connection.execute(self._timeouts.begin())
        return connection

    def _opened(self) -> _Connection:
        if self._is_closed:
            raise DatabaseError("the connection to PostgreSQL is closed")
        if self._connection is None:
            self._connection = _connected(self._parameters)
            self._connection.patience = self._timeouts.statement + GRACE
        return self._connection

    def _roll_back(self) -> None:
        if self._connection is not None:
            try:
                self._connection.execute("ROLLBACK")
            except psycopg.Error:
                self._drop()

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(psycopg.Error):
                connection.close()


class _Connection(psycopg.Connection[TupleRow]):
    """A connection that stops waiting for a silent server."""

    patience = GRACE

    def wait(self, gen: PQGen[RV], interval: float = 0.1, timeout: float | None = None) -> RV:
        return super().wait(gen, interval, self.patience if timeout is None else timeout)


def _parameters(url: str) -> dict[str, Any]:
    with suppress(psycopg.Error, ValueError):
        StoreURL.read(url)  # libpq's reader is lax: see there
        found = conninfo_to_dict(url)
        if _are_usable(found):
            return found
    raise DatabaseError(NO_URL)


def _are_usable(parameters: dict[str, Any]) -> bool:
    """Whether libpq will take the values, which it reads no sooner than it connects.

    Raises UnicodeError for a host that cannot be looked up.
    """
    for host in str(parameters.get("host", "")).split(","):
        host.encode("ascii" if host.startswith("/") else "idna")
    ports = str(parameters.get("port", "")).split(",")
    return (
        all(re.fullmatch(_INTEGER, str(parameters.get(name, 0))) for name in _INTEGERS)
        and all(not port or (port.isdecimal() and 0 < int(port) <= LAST_PORT) for port in ports)
        and parameters.get("sslmode", "prefer") in _SSL_MODES
    )


def _connected(parameters: dict[str, Any]) -> _Connection:
    # libpq's parser lets through hosts that are no names (UnicodeError) and bad numbers.
    with suppress(psycopg.ProgrammingError, ValueError):
        return _Connection.connect(**parameters, autocommit=True, prepare_threshold=None)
    raise DatabaseError(NO_URL)


def _committed(connection: _Connection) -> DatabaseError | None:
    """Commit, and return the failure, if any."""
    try:
        connection.execute("COMMIT")
    except psycopg.OperationalError as error:
        return DatabaseError(f"{_described(error, LOST)}: the outcome is unknown", is_away=True)
    return None


def _described(error: psycopg.Error, otherwise: str) -> DatabaseError:
    """Translate an error; `otherwise` is the line for a connection error without a code."""
    state = error.sqlstate or ""
    for table, is_away in ((_WILL_STAY, False), (_MAY_PASS, True)):
        for beginning, line in table.items():
            if state.startswith(beginning):
                return DatabaseError(line, is_away=is_away, code=state)
    if not isinstance(error, psycopg.OperationalError) or state:
        line = f"PostgreSQL refuses a statement ({state or 'no code'})"
        return DatabaseError(line, code=state)
    return _without_code(error, otherwise)


def _without_code(error: psycopg.OperationalError, otherwise: str) -> DatabaseError:
    """Translate a connection that was refused, failed or ended."""
    for pattern, line in _REFUSALS.items():
        if re.search(pattern, str(error)):
            return DatabaseError(line)
    return DatabaseError(otherwise, is_away=True)
