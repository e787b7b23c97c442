"""Why Redis fails: each cause has a word of its own, and no message holds a password."""

from __future__ import annotations

import re
import signal
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest
import redis
import trustme

from ollama_gateway.storage.redis import RedisConnection, RedisFailed, doubts_of, understands
from ollama_gateway.storage.redis_faults import RedisFault
from tests.smoke.fleet import free_port
from tests.support.certificates import server_context
from tests.support.patience import PATIENCE
from tests.support.redis_server import RedisServer, private_redis

SECRET = "hunter2"
WRITE = "return redis.call('zadd', KEYS[1], 1, 'x')"


def write(client: redis.Redis) -> Any:
    """Write in a script, as the limits do."""
    return client.eval(WRITE, 1, "ollama-gateway:1:{k}:rate")


def fault_of(url: str, timeout: float = PATIENCE) -> RedisFault:
    """Return why a write fails; the message is the cause's own line."""
    with (
        closing(RedisConnection(url, timeout, decodes=True)) as connection,
        pytest.raises(RedisFailed) as failed,
    ):
        connection.ask(write)
    assert str(failed.value) == failed.value.fault.line
    assert SECRET not in repr(connection)
    return failed.value.fault


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    """Run a private Redis; each test leaves it as it was."""
    with private_redis() as started:
        yield started


@contextmanager
def commanded(server: RedisServer, does: list[Any], undoes: list[Any]) -> Iterator[None]:
    """Send Redis a command for the length of the block."""
    with redis.Redis.from_url(server.url) as client:
        client.execute_command(*does)
        try:
            yield
        finally:
            client.execute_command(*undoes)


COMMANDS = {
    RedisFault.READ_ONLY: (["REPLICAOF", "127.0.0.1", "1"], ["REPLICAOF", "NO", "ONE"]),
    RedisFault.OUT_OF_MEMORY: (
        ["CONFIG", "SET", "maxmemory", "1"],
        ["CONFIG", "SET", "maxmemory", "0"],
    ),
    RedisFault.NO_REPLICAS: (
        ["CONFIG", "SET", "min-replicas-to-write", "1"],
        ["CONFIG", "SET", "min-replicas-to-write", "0"],
    ),
    RedisFault.WRONG_PASSWORD: (
        ["ACL", "SETUSER", "bob", "on", f">{SECRET}!"],
        ["ACL", "DELUSER", "bob"],
    ),
    RedisFault.NO_RIGHTS: (
        ["ACL", "SETUSER", "bob", "on", f">{SECRET}", "~*", "+@all", "-zadd"],
        ["ACL", "DELUSER", "bob"],
    ),
}


@pytest.mark.parametrize("fault", COMMANDS)
def test_a_redis_that_refuses_says_why(server: RedisServer, fault: RedisFault) -> None:
    """Each refusal of a script has its cause, in Redis 6.2's words and in those of 7."""
    is_bob = fault in {RedisFault.WRONG_PASSWORD, RedisFault.NO_RIGHTS}
    user = f"bob:{SECRET}@" if is_bob else ""
    with commanded(server, *COMMANDS[fault]):
        assert fault_of(f"redis://{user}127.0.0.1:{server.port}/0") is fault


@pytest.mark.parametrize("rights", [["+@all"], ["~nothing", "+@all"], ["~*", "+@connection"]])
def test_missing_rights_of_every_kind(server: RedisServer, rights: list[str]) -> None:
    """A right to keys may be missing as well as one to commands."""
    setting = ["ACL", "SETUSER", "bob", "reset", "on", f">{SECRET}", *rights]
    with commanded(server, setting, ["ACL", "DELUSER", "bob"]):
        url = f"redis://bob:{SECRET}@127.0.0.1:{server.port}/0"
        assert fault_of(url) is RedisFault.NO_RIGHTS


def test_a_password_that_is_missing(server: RedisServer) -> None:
    """Without the password of a Redis that has one, the cause is another than with a wrong one."""
    setting = ["CONFIG", "SET", "requirepass", SECRET]
    with commanded(server, setting, ["CONFIG", "SET", "requirepass", ""]):
        assert fault_of(server.url) is RedisFault.NO_PASSWORD
        wrong = f"redis://:{SECRET}x@127.0.0.1:{server.port}/0"
        assert fault_of(wrong) is RedisFault.WRONG_PASSWORD


@pytest.mark.parametrize(
    ("url", "fault"),
    [
        ("redis://127.0.0.1:{port}/99", RedisFault.WRONG_DATABASE),
        ("redis://127.0.0.1:{free}/0", RedisFault.REFUSED),
        ("redis://nowhere.invalid:{port}/0", RedisFault.UNKNOWN_HOST),
        ("unix:///nowhere/redis.sock", RedisFault.NO_FILE),
        ("rediss://127.0.0.1:{port}/0", RedisFault.TLS_UNEXPECTED),
    ],
)
def test_a_url_that_leads_elsewhere(server: RedisServer, url: str, fault: RedisFault) -> None:
    """The wrong part of the URL is named by its cause."""
    shown = url.format(port=server.port, free=free_port())
    assert fault_of(shown, timeout=1.0) is fault


def test_a_redis_that_hangs(server: RedisServer) -> None:
    """No answer in time is the cause, with TLS and without, however the connection was made."""
    server.signal(signal.SIGSTOP)
    try:
        assert fault_of(server.url, timeout=0.2) is RedisFault.HUNG
        assert fault_of(f"rediss://127.0.0.1:{server.port}/0", timeout=0.2) is RedisFault.HUNG
    finally:
        server.signal(signal.SIGCONT)


@contextmanager
def answering(serve: Callable[[socket.socket], object]) -> Iterator[int]:
    """Run a server that does this with each connection, and then closes it; yield its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def run() -> None:
            while True:
                try:
                    sock, _ = listener.accept()
                except OSError:
                    return
                with sock:
                    try:
                        serve(sock)
                    except OSError:  # the client has left
                        continue

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(PATIENCE)


def test_a_server_that_expects_tls() -> None:
    """A plain connection that it ends has another cause than one that any server ends."""
    context = server_context(trustme.CA())

    def secure(sock: socket.socket) -> None:
        context.wrap_socket(sock, server_side=True).close()

    with answering(secure) as port:
        assert fault_of(f"redis://:{SECRET}@127.0.0.1:{port}/0") is RedisFault.TLS_EXPECTED
        assert fault_of(f"rediss://:{SECRET}@127.0.0.1:{port}/0") is RedisFault.TLS_FAILED
    with answering(lambda sock: sock.recv(1)) as port:
        assert fault_of(f"redis://:{SECRET}@127.0.0.1:{port}/0") is RedisFault.LOST


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", RedisFault.NOT_REDIS),
        (b"-LOADING Redis is loading the dataset in memory\r\n", RedisFault.LOADING),
        (b"-MISCONF Redis is configured to save RDB snapshots\r\n", RedisFault.NOT_SAVED),
        (b"-BUSY Redis is busy running a script\r\n", RedisFault.BUSY),
        (b"-ERR max number of clients reached\r\n", RedisFault.TOO_MANY_CLIENTS),
        (b"-DENIED Redis is running in protected mode because\r\n", RedisFault.PROTECTED),
        (b"-MOVED 1 127.0.0.1:1\r\n", RedisFault.CLUSTER),
        (b"-CLUSTERDOWN Hash slot not served\r\n", RedisFault.CLUSTER),
        (b"-MASTERDOWN Link with MASTER is down\r\n", RedisFault.READ_ONLY),
        (b"-ERR unknown command `AUTH`, with args: `hunter2`\r\n", RedisFault.OTHER),
    ],
)
def test_answers_that_no_test_can_bring_about(answer: bytes, fault: RedisFault) -> None:
    """Redis's words for its other states are known, and none of them is repeated."""

    def serve(sock: socket.socket) -> None:
        while sock.recv(65536):
            sock.sendall(answer)

    with answering(serve) as port:
        assert fault_of(f"redis://:{SECRET}@127.0.0.1:{port}/0") is fault


def test_a_server_that_has_answered_is_not_looked_at_again(server: RedisServer) -> None:
    """A connection that ends later is lost, even if something else listens there by then."""
    with closing(RedisConnection(server.url, PATIENCE)) as connection:
        assert connection.ask(lambda client: client.ping())
        assert connection.fault_of(redis.ConnectionError("Connection closed")) is RedisFault.LOST
        assert connection.fault_of(ssl.SSLError(1, "x")) is RedisFault.NOT_REDIS


def test_words_and_lines_are_distinct() -> None:
    """A program tells causes apart by the word, and a person by the line."""
    for part in ("word", "line"):
        assert len({getattr(fault, part) for fault in RedisFault}) == len(RedisFault)


def test_the_docs_have_a_row_for_every_cause() -> None:
    """The table has each word once, and no other."""
    page = (Path(__file__).parents[2] / "docs/operate/limits.md").read_text()
    table = page.partition("### Why Redis fails")[2].partition("\n## ")[0]
    words = re.findall(r"^\| `([a-z_]+)` \|", table, flags=re.MULTILINE)
    assert sorted(words) == sorted(fault.word for fault in RedisFault)


@pytest.mark.parametrize(
    ("query", "is_good"),
    [
        ("db=3&client_name=gw", True),
        ("socket_timeout=x&encoding=bogus&decode_responses=x", True),  # not the gateway's business
        ("db=x", False),
        ("protocol=9", False),
        ("credential_provider=x", False),
        ("connection_class=x", False),
        ("host=elsewhere", False),
    ],
)
def test_parameters_of_a_url(query: str, is_good: bool) -> None:  # noqa: FBT001 - a column
    """Only parameters that the gateway takes or overrides are accepted."""
    assert understands(f"redis://127.0.0.1/0?{query}") is is_good


def test_parameters_that_the_gateway_overrides_have_no_effect(server: RedisServer) -> None:
    """A URL can neither switch off the timeout nor garble the replies."""
    url = f"{server.url}?socket_timeout=99&encoding=bogus&decode_responses=x&retry_on_timeout=yes"
    with closing(RedisConnection(url, PATIENCE, decodes=True)) as connection:
        assert connection.ask(lambda client: client.echo("é")) == "é"
        arguments = connection.client.connection_pool.connection_kwargs
        assert arguments["socket_timeout"] == PATIENCE


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ((), []),
        (("--appendonly", "yes"), ["appendonly yes"]),
        (("--save", "60", "1"), ["save 60 1"]),
        (("--maxmemory-policy", "allkeys-lru"), ["noeviction"]),
    ],
)
def test_a_redis_that_keeps_its_data_is_doubted(options: tuple[str, ...], words: list[str]) -> None:
    """An old state would be believed, and a dropped count forgotten."""
    with private_redis(*options) as started:
        found = doubts_of(started.url, PATIENCE)
        assert len(found) == len(words)
        assert all(word in line for word, line in zip(words, found, strict=True))


def test_a_redis_that_does_not_tell_its_settings_is_not_doubted(tmp_path: Path) -> None:
    """Managed servers forbid CONFIG, and one that is away tells nothing."""
    with private_redis("--appendonly", "yes", "--rename-command", "CONFIG", "") as started:
        assert doubts_of(started.url, PATIENCE) == []
    assert doubts_of(f"redis://127.0.0.1:{free_port()}/0", PATIENCE) == []


def test_another_timeout(server: RedisServer) -> None:
    """From a change of its timeout on, an answer may take that long."""
    with closing(RedisConnection(server.url, 0.05)) as connection:
        for timeout in (0.05, PATIENCE):
            connection.timeout = timeout
            with pytest.raises(RedisFailed) if timeout < PATIENCE else nullcontext():
                connection.ask(lambda client: client.blpop(["nothing"], 0.3))
