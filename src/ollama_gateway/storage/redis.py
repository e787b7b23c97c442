"""One connection to Redis, used by one thread at a time, whose failures have a cause.

Redis-py's own retries are off, because they would repeat an operation whose reply is late. The
gateway's own parameters win over those of the URL.

Some causes show only on a second look. A server that expects TLS ends a plain connection without a
word, and a plain Redis waits silently for the rest of what TLS sent. So while a server has never
answered, a failure that may be one of these is followed by a short try of the other protocol.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any, Final, TypeVar
from urllib.parse import unquote

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from ollama_gateway import keepalive
from ollama_gateway.storage.redis_faults import RedisFault, fault_of
from ollama_gateway.store_url import StoreURL

R = TypeVar("R")

TLS_FILES: Final = ("ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile")
"""Parameters of a URL that name files."""
TAKEN: Final = frozenset(
    {"client_name", "db", "password", "protocol", "ssl_cert_reqs", "ssl_check_hostname"}
    | {"ssl_ciphers", "ssl_password", "username", *TLS_FILES}
)
"""Parameters of a URL that the gateway takes."""
OVERRIDDEN: Final = frozenset(
    {"decode_responses", "encoding", "encoding_errors", "health_check_interval"}
    | {"max_connections", "retry_on_error", "retry_on_timeout", "socket_connect_timeout"}
    | {"socket_keepalive", "socket_read_size", "socket_timeout", "timeout"}
)
"""Parameters that a URL may have, and in whose place the gateway uses its own values."""
DEFAULT_PORT: Final = 6379

_MAY_BE_TLS: Final = frozenset({RedisFault.LOST, RedisFault.NOT_REDIS})
_MAY_BE_PLAIN: Final = frozenset({RedisFault.HUNG, RedisFault.LOST, RedisFault.TLS_FAILED})


class RedisFailed(Exception):
    """Redis did not do what it was asked; the message is the cause's line."""

    def __init__(self, fault: RedisFault) -> None:
        super().__init__(fault.line)
        self.fault = fault


class RedisConnection:
    """The connection to the Redis of `redis.url`, opened on first use.

    Args:
        url: as in the settings.
        timeout: seconds for a connection, and for each answer.
        decodes: whether replies are text, not bytes.

    Attributes:
        client: of redis-py.
        timeout: may be changed; the next call makes a client with another one.

    """

    def __init__(self, url: str, timeout: float, *, decodes: bool = False) -> None:
        self._url = StoreURL.read(url)
        self._make = partial(_client, url, decodes=decodes)
        self._has_answered = False
        self.timeout = self._timeout = timeout
        self.client = self._make(timeout)

    def __repr__(self) -> str:
        return f"<RedisConnection {self._url.scheme}, {self._timeout} s>"

    def ask(self, work: Callable[[redis.Redis], R]) -> R:
        """Call `work` with the client; raises RedisFailed, and then leaves no connection open."""
        if self.timeout != self._timeout:
            self.close()
            self._timeout = self.timeout
            self.client = self._make(self._timeout)
        try:
            result = work(self.client)
        except Exception as error:  # noqa: BLE001 - redis-py raises anything for odd bytes
            fault = self.fault_of(error)
            self.client.connection_pool.disconnect()
            # From None: a server that does not know AUTH quotes the password in its error.
            raise RedisFailed(fault) from None
        self._has_answered = True
        return result

    def fault_of(self, error: Exception) -> RedisFault:
        """Return the cause of an error that redis-py raised."""
        fault = fault_of(error)
        if self._has_answered or self._url.scheme == "unix":
            return fault
        if self._url.scheme == "redis":
            is_tls = fault in _MAY_BE_TLS and self._speaks_tls()
            return RedisFault.TLS_EXPECTED if is_tls else fault
        if fault in _MAY_BE_PLAIN and self._speaks_plainly():
            return RedisFault.TLS_UNEXPECTED
        return RedisFault.TLS_FAILED if fault is RedisFault.LOST else fault

    def close(self) -> None:
        """Close the connection."""
        self.client.close()

    def _speaks_tls(self) -> bool:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        try:
            with self._socket() as sock, context.wrap_socket(sock):
                return True
        except OSError:
            return False

    def _speaks_plainly(self) -> bool:
        with suppress(OSError), self._socket() as sock:
            sock.sendall(b"PING\r\n")
            return sock.recv(1) in {b"+", b"-"}
        return False

    def _socket(self) -> socket.socket:
        host = self._url.hosts[0].strip("[]")
        return socket.create_connection((host, self._url.ports[0] or DEFAULT_PORT), self._timeout)


def understands(url: str) -> bool:
    """Whether redis-py takes a URL with all its parameters; does not connect."""
    try:
        if StoreURL.read(url).query.keys() - TAKEN - OVERRIDDEN:
            return False
        _client(url, 1.0, decodes=True).connection_pool.make_connection()
    except Exception:  # noqa: BLE001 - a bad parameter raises anything, and the error quotes it
        return False
    return True


def doubts_of(url: str, timeout: float) -> list[str]:
    """Return a line for each setting of Redis that is not as limits need it.

    Nothing if Redis does not answer, or does not tell its settings to this user.
    """
    connection = RedisConnection(url, timeout, decodes=True)
    try:
        found = connection.ask(_settings)
    except RedisFailed:
        return []
    finally:
        connection.close()
    return list(_doubts(found))


def _settings(client: redis.Redis) -> dict[str, str]:
    names = ("save", "appendonly", "maxmemory-policy")
    replies: list[Any] = [client.config_get(name) for name in names]  # 6.2 takes one at a time
    return {name: value for reply in replies for name, value in reply.items()}


def _doubts(found: dict[str, str]) -> Iterator[str]:
    kept = [f"{name} {found[name]}" for name in ("save", "appendonly") if _is_on(found.get(name))]
    if kept:
        yield (
            f"redis.url: Redis keeps its data on disk ({', '.join(kept)}), and an old state that it"
            ' comes back with is believed: set save "" and appendonly no'
        )
    if found.get("maxmemory-policy", "noeviction") != "noeviction":
        yield "redis.url: Redis may drop counts when it is full: set maxmemory-policy noeviction"


def _is_on(value: str | None) -> bool:
    return value not in {None, "", "no"}


def _client(url: str, timeout: float, *, decodes: bool) -> redis.Redis:
    """Make a client; in redis-py, parameters of the URL win, so ours are taken out of it."""
    beginning, _, query = url.partition("?")
    pairs = [pair for pair in query.split("&") if unquote(pair.partition("=")[0]) not in OVERRIDDEN]
    return redis.Redis.from_url(
        f"{beginning}?{'&'.join(pairs)}",
        socket_timeout=timeout,
        socket_connect_timeout=timeout,
        retry=Retry(NoBackoff(), 0),
        **keepalive.of_redis(url),
        decode_responses=decodes,
    )
