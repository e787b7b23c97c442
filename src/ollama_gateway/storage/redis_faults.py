"""Why Redis fails: a fixed word for each cause, and a line that says what to do.

Redis-py's and Redis's own texts hold hosts, and can hold a password: a server that does not know
AUTH quotes the command. So no text of theirs leaves this module. The tables read them, because many
causes have no type: an error inside a script is text (Redis 6.2 quotes it whole, 7 does not).
"""

from __future__ import annotations

import enum
import re
import socket
from collections.abc import Iterator
from typing import Final

from redis import exceptions

from ollama_gateway.tls_faults import tls_fault


class RedisFault(enum.Enum):
    """A cause, and its line for the operator."""

    def __init__(self, word: str, line: str) -> None:
        self.word = word
        """For programs; it does not change."""
        self.line = line
        """The cause and what to do, one line."""

    UNKNOWN_HOST = (
        "unknown_host",
        "the host of redis.url is unknown: correct its name, or the name service",
    )
    REFUSED = (
        "refused",
        "the connection to Redis is refused: start it, or correct the host and port of redis.url",
    )
    UNREACHABLE = (
        "unreachable",
        "no connection to Redis in time: look at the network and the firewalls on the way",
    )
    NO_FILE = (
        "no_file",
        "a socket or file that redis.url names cannot be opened: correct its path, or its mode",
    )
    TLS_EXPECTED = ("tls_expected", "Redis expects TLS: let redis.url begin with rediss://")
    TLS_UNEXPECTED = ("tls_unexpected", "Redis speaks no TLS: let redis.url begin with redis://")
    TLS_FAILED = (
        "tls_failed",
        "Redis's certificate or ours is not accepted: correct the ssl_ parameters of redis.url",
    )
    WRONG_PASSWORD = (
        "wrong_password",
        "Redis refuses the user or the password: correct redis.url",
    )
    NO_PASSWORD = ("no_password", "Redis asks for a password: add it to redis.url")
    NO_RIGHTS = (
        "no_rights",
        "the user of redis.url lacks rights in Redis: give it those in docs/operate/limits.md",
    )
    WRONG_DATABASE = (
        "wrong_database",
        "Redis has no database of this number: correct the path of redis.url",
    )
    NOT_REDIS = (
        "not_redis",
        "the server does not answer as Redis does: correct the host and port of redis.url",
    )
    CLUSTER = ("cluster", "Redis is a part of a cluster: use a single server")
    PROTECTED = (
        "protected",
        "Redis is in protected mode and serves its own machine only: give it a password",
    )
    TOO_MANY_CLIENTS = ("too_many_clients", "Redis has too many clients: raise its maxclients")
    LOADING = ("loading", "Redis is loading its data: wait until it is done")
    READ_ONLY = (
        "read_only",
        "Redis is a replica and takes no writes: let redis.url lead to the primary",
    )
    NO_REPLICAS = (
        "no_replicas",
        "Redis takes no writes without its replicas: start them, or set min-replicas-to-write 0",
    )
    OUT_OF_MEMORY = ("out_of_memory", "Redis is out of memory: raise its maxmemory")
    NOT_SAVED = (
        "not_saved",
        "Redis takes no writes, as it could not save its data: switch persistence off",
    )
    BUSY = ("busy", "Redis is busy with a script of another program: end it (SCRIPT KILL)")
    HUNG = (
        "hung",
        "Redis does not answer in time: see whether it hangs, or raise redis.timeout",
    )
    LOST = ("lost", "Redis ended the connection: see its log")
    OTHER = ("other", "Redis refuses an operation: see its log")


PASSING: Final = frozenset({RedisFault.HUNG, RedisFault.LOST})
"""Faults after which the same Redis may answer at once."""

_BY_TYPE: Final = (
    (exceptions.NoPermissionError, RedisFault.NO_RIGHTS),
    (exceptions.BusyLoadingError, RedisFault.LOADING),
    (exceptions.ReadOnlyError, RedisFault.READ_ONLY),
    (exceptions.MasterDownError, RedisFault.READ_ONLY),
    (exceptions.OutOfMemoryError, RedisFault.OUT_OF_MEMORY),
    (exceptions.ClusterDownError, RedisFault.CLUSTER),
    (exceptions.MovedError, RedisFault.CLUSTER),
    (exceptions.AskError, RedisFault.CLUSTER),
    (exceptions.ClusterCrossSlotError, RedisFault.CLUSTER),
)
_BY_TEXT: Final = {
    r"must be called with the client already authenticated|NOAUTH|Authentication required": (
        RedisFault.NO_PASSWORD
    ),
    r"WRONGPASS|invalid (username-)?password|without any password configured": (
        RedisFault.WRONG_PASSWORD
    ),
    r"NOPERM|can't run this command|no permissions to": RedisFault.NO_RIGHTS,
    r"DB index is out of range|invalid DB index": RedisFault.WRONG_DATABASE,
    r"max number of clients": RedisFault.TOO_MANY_CLIENTS,
    r"protected mode": RedisFault.PROTECTED,
    r"\bLOADING\b": RedisFault.LOADING,
    r"\bREADONLY\b|MASTERDOWN": RedisFault.READ_ONLY,
    r"\bNOREPLICAS\b": RedisFault.NO_REPLICAS,
    r"\bOOM\b": RedisFault.OUT_OF_MEMORY,
    r"\bMISCONF\b": RedisFault.NOT_SAVED,
    r"\bBUSY\b": RedisFault.BUSY,
    r"cluster mode|CROSSSLOT|CLUSTERDOWN|\bMOVED\b": RedisFault.CLUSTER,
}


def fault_of(error: BaseException) -> RedisFault:
    """Return the cause of a failure that redis-py raised, or of an error among its replies."""
    return _of_reply(error) or _of_connection(error)


def _of_reply(error: BaseException) -> RedisFault | None:
    for type_, fault in _BY_TYPE:
        if isinstance(error, type_):
            return fault
    if not isinstance(error, exceptions.RedisError):
        return None
    for pattern, fault in _BY_TEXT.items():
        if re.search(pattern, str(error)):
            return fault
    if isinstance(error, exceptions.AuthenticationError):
        return RedisFault.WRONG_PASSWORD
    is_connected = isinstance(error, exceptions.ResponseError)
    is_garbled = isinstance(error, exceptions.InvalidResponse)
    return RedisFault.OTHER if is_connected and not is_garbled else None


def _of_connection(error: BaseException) -> RedisFault:
    causes = list(_causes(error))
    is_connecting = "connecting to" in str(error)
    if any(isinstance(cause, socket.gaierror | UnicodeError) for cause in causes):
        return RedisFault.UNKNOWN_HOST
    if isinstance(error, exceptions.TimeoutError):
        is_handshake = any("handshake" in str(cause) for cause in causes)  # of TLS, after TCP's
        return RedisFault.UNREACHABLE if is_connecting and not is_handshake else RedisFault.HUNG
    if any(isinstance(cause, ConnectionRefusedError) for cause in causes):
        return RedisFault.REFUSED
    if any(isinstance(cause, FileNotFoundError | PermissionError) for cause in causes):
        return RedisFault.NO_FILE
    if is_connecting:
        return RedisFault.TLS_FAILED if tls_fault(error) else RedisFault.UNREACHABLE
    return (
        RedisFault.LOST if isinstance(error, exceptions.ConnectionError) else RedisFault.NOT_REDIS
    )


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
