"""What can only be said about several values together, and what this version does not do yet."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import attrs

from ollama_gateway.postgres import Database, DatabaseError
from ollama_gateway.settings import files, places
from ollama_gateway.settings.model import NOT_YET, Backend, Redis, Server, Storage
from ollama_gateway.settings.units import printable, show_bytes, shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from ollama_gateway.settings.tables import Table

RESERVED: Final = frozenset(
    {
        "accept-encoding",
        "connection",
        "content-length",
        "expect",
        "host",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
"""Headers that belong to the transport; one set by hand would break every request."""

_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,256}")


def of_sections(parts: Sequence[tuple[Table, Any]]) -> Iterator[str]:
    """The problems of every section that could be typed."""
    for table, value in parts:
        yield from _not_yet(table, value, table.path)
        if isinstance(value, Server):
            yield from _of_server(table, value)
        if isinstance(value, Redis):
            yield from _of_redis(table, value)
        if isinstance(value, Storage):
            yield from _of_storage(table, value)
    yield from _of_processes(parts)


def of_backends(parts: Sequence[tuple[Table, Backend]]) -> Iterator[str]:
    """The problems of every backend that could be typed."""
    for table, backend in parts:
        yield from _not_yet(table, backend, "backends[]")
        yield from _of_backend(table, backend)


def of_header_names(tables: Iterable[Table]) -> Iterator[str]:
    """A problem for each further header of a backend that may not be sent."""
    for table in tables:
        headers = table.values.get("headers")
        seen = {"authorization"} if table.values.get("auth_token") else set()
        for name in headers if isinstance(headers, dict) else ():
            if fault := _fault_of_header(name, seen):
                yield f"{table.name_of('headers')}[{name!r}]: {fault}"
            seen.add(name.lower())


def _fault_of_header(name: str, seen: set[str]) -> str | None:
    if not _TOKEN.fullmatch(name):
        return "is not the name of a header"
    if name.lower() in RESERVED:
        return "is set by the gateway itself"
    return "is given twice (auth_token counts)" if name.lower() in seen else None


def duplicates(tables: Iterable[Table]) -> Iterator[str]:
    """A problem for each name that an earlier backend has."""
    seen: dict[str, str] = {}
    for table in tables:
        name = table.values.get("name")
        if isinstance(name, str) and places.is_name(name):
            first = seen.setdefault(name, table.path)
            if first != table.path:
                yield f"{table.name_of('name')}: {shown(name)} is already the name of {first}"


def warnings(backends: Iterable[tuple[Table, Backend]]) -> Iterator[str]:
    """What is in order but not what it may seem."""
    seen: dict[str, str] = {}
    for table, backend in backends:
        first = seen.setdefault(backend.url, table.path)
        if first != table.path:
            yield f"{table.name_of('url')}: the same server as {first}"


def _not_yet(table: Table, value: Any, path: str) -> Iterator[str]:
    for field in attrs.fields(type(value)):
        sentence = NOT_YET.get(f"{path}.{field.name}")
        if sentence and getattr(value, field.name) != field.default:
            yield f"{table.name_of(field.name)}: {sentence}"


def _of_server(table: Table, server: Server) -> Iterator[str]:
    if not server.admin_bind.is_loopback and server.admin_token is None:
        yield (
            f"{table.name_of('admin_token')}: is required, since server.admin_bind "
            f"({server.admin_bind}) is not a loopback address"
        )
    if server.admin_bind == server.bind and server.bind.port:
        yield f"{table.name_of('admin_bind')}: is the same address as server.bind"
    if server.max_body_total < server.max_body:
        total = show_bytes(server.max_body_total)
        yield (
            f"{table.name_of('max_body_total')}: {total} is less than server.max_body "
            f"({show_bytes(server.max_body)})"
        )
    if (server.tls_cert is None) != (server.tls_key is None):
        missing = "tls_key" if server.tls_key is None else "tls_cert"
        yield f"{table.name_of(missing)}: is missing: tls_cert and tls_key go together"


def _of_processes(parts: Sequence[tuple[Table, Any]]) -> Iterator[str]:
    has_redis = any(isinstance(value, Redis) and value.url is not None for _, value in parts)
    for table, value in parts:
        if isinstance(value, Server) and value.processes > 1 and not has_redis:
            yield (
                f"{table.name_of('processes')}: more than one process needs redis.url, since each"
                " would count the limits of keys by itself"
            )


def _of_redis(table: Table, redis: Redis) -> Iterator[str]:
    if redis.url is None:
        return
    try:
        parts = urlsplit(redis.url.reveal())
        port = parts.port
    except ValueError:
        yield f"{table.name_of('url')}: is not a URL: the host or the port is wrong"
        return
    if parts.scheme not in ("redis", "rediss", "unix"):
        yield f"{table.name_of('url')}: must begin with redis://, rediss:// or unix://"
    elif port == 0 or not (parts.path if parts.scheme == "unix" else parts.hostname):
        yield f"{table.name_of('url')}: names no server"


def _of_storage(table: Table, storage: Storage) -> Iterator[str]:
    if storage.database_url is None:
        return
    url = storage.database_url.reveal()
    if not url.startswith(("postgresql://", "postgres://")):
        yield f"{table.name_of('database_url')}: must begin with postgresql://"
        return
    try:
        Database(url)
    except DatabaseError:
        yield f"{table.name_of('database_url')}: is not a URL that PostgreSQL understands"


def _of_backend(table: Table, backend: Backend) -> Iterator[str]:
    if not backend.models:
        yield f"{table.name_of('models')}: at least one pattern is needed"
    if backend.client_key is not None and backend.client_cert is None:
        yield f"{table.name_of('client_cert')}: is missing: client_key needs it"
    for key in ("ca_file", "client_cert", "client_key"):
        path = getattr(backend, key)
        if path is not None and (fault := _unreadable(path)):
            yield f"{table.name_of(key)}: {fault}"


def _unreadable(path: Path) -> str | None:
    try:
        files.open_regular(path).close()
    except (OSError, ValueError) as exc:
        return f"the file {printable(str(path))}: {files.why(exc)}"
    return None
