"""Checks that look at several values together."""

from __future__ import annotations

import re
from ipaddress import IPv4Network
from typing import TYPE_CHECKING, Any, Final

from ollama_gateway.certificates import TLSFilesBroken, client_context, server_context
from ollama_gateway.printable import printable
from ollama_gateway.settings import addresses, files
from ollama_gateway.settings.model import (
    AuthSettings,
    BackendSettings,
    RedisSettings,
    ServerSettings,
    StorageSettings,
)
from ollama_gateway.settings.stores import fault_of_database, fault_of_redis, overridden_in
from ollama_gateway.settings.units import discreet, show_bytes, show_seconds, shown
from ollama_gateway.wire.origins import Origins

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
"""Headers that the transport sets; one set by hand would break every request."""

SLIRP4NETNS: Final = IPv4Network("10.0.2.0/24")
"""The network inside a rootless container of podman: its port forwarding hides the client."""
SHORTEST_TIMEOUT: Final = 0.05
LONGEST_TIMEOUT: Final = 5.0
"""Seconds of `redis.timeout`: a heartbeat a second must get through before a lease of 30 s ends."""

_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,256}")


def of_sections(parts: Sequence[tuple[Table, Any]]) -> Iterator[str]:
    """Yield the problems of every section that could be typed."""
    for table, value in parts:
        if isinstance(value, ServerSettings):
            yield from _of_server(table, value)
        if isinstance(value, RedisSettings):
            yield from _of_redis(table, value)
        if isinstance(value, StorageSettings):
            yield from _of_storage(table, value)
        if isinstance(value, AuthSettings):
            yield from _of_auth(
                table, value, [v for _, v in parts if isinstance(v, ServerSettings)]
            )
    yield from _of_processes(parts)


def of_backends(parts: Sequence[tuple[Table, BackendSettings]]) -> Iterator[str]:
    """Yield the problems of every backend that could be typed."""
    for table, backend in parts:
        yield from _of_backend(table, backend)


def of_header_names(tables: Iterable[Table]) -> Iterator[str]:
    """Yield a problem for each header in `headers` that the gateway must not send."""
    for table in tables:
        headers = table.values.get("headers")
        seen = {"authorization"} if table.values.get("auth_token") else set()
        for name in headers if isinstance(headers, dict) else ():
            if fault := _fault_of_header(name, seen):
                yield f"{table.name_of('headers')}[{discreet(repr(name))}]: {fault}"
            seen.add(name.lower())


def _fault_of_header(name: str, seen: set[str]) -> str | None:
    if not _TOKEN.fullmatch(name):
        return "is not a header name"
    if name.lower() in RESERVED:
        return "is set by the gateway itself: remove it"
    return "is given twice (auth_token counts): keep one" if name.lower() in seen else None


def of_shares(
    parts: Sequence[tuple[Table, Any]], backends: Sequence[tuple[Table, BackendSettings]]
) -> Iterator[str]:
    """Yield a problem for each total that is too small to divide among the processes."""
    for table, server in parts:
        if isinstance(server, ServerSettings):
            yield from _of_shares_of_server(table, server)
            for of_backend, backend in backends:
                if 0 < backend.slots < server.processes:
                    yield _too_few(of_backend.name_of("slots"), backend.slots, server)


def _of_shares_of_server(table: Table, server: ServerSettings) -> Iterator[str]:
    if server.max_connections < server.processes:
        yield _too_few(table.name_of("max_connections"), server.max_connections, server)
    if 0 < (each := server.max_connections_per_address) < server.processes:
        yield _too_few(table.name_of("max_connections_per_address"), each, server)
    total = server.max_body_total
    if total // server.processes < server.max_body <= total:
        yield (
            f"{table.name_of('max_body_total')}: {show_bytes(total)}, divided by"
            f" server.processes ({server.processes}), is less than server.max_body"
            f" ({show_bytes(server.max_body)}): raise it"
        )


def _too_few(name: str, figure: int, server: ServerSettings) -> str:
    count = server.processes
    return f"{name}: {figure} is less than server.processes ({count}): each process needs its own"


def duplicates(tables: Iterable[Table]) -> Iterator[str]:
    """Yield a problem for each name that an earlier backend has."""
    seen: dict[str, str] = {}
    for table in tables:
        name = table.values.get("name")
        if isinstance(name, str) and addresses.is_name(name):
            first = seen.setdefault(name, table.path)
            if first != table.path:
                taken = f"{shown(name)} is already the name of {first}"
                yield f"{table.name_of('name')}: {taken}: choose another"


def warnings(
    sections: Iterable[tuple[Table, Any]], backends: Iterable[tuple[Table, BackendSettings]]
) -> Iterator[str]:
    """Yield a line for each value that is allowed but risky, or probably a mistake."""
    for table, value in sections:
        networks = value.anonymous_networks if isinstance(value, AuthSettings) else ()
        if any(network.prefixlen == 0 for network in networks):
            yield f"{table.name_of('anonymous_networks')}: no client on any network needs a key"
        elif any(isinstance(n, IPv4Network) and n.overlaps(SLIRP4NETNS) for n in networks):
            yield (
                f"{table.name_of('anonymous_networks')}: covers {SLIRP4NETNS}: if a rootless"
                " container publishes the port (slirp4netns), all clients have an address there"
            )
        if isinstance(value, RedisSettings) and value.url is not None:
            for name in overridden_in(value.url.reveal()):
                yield f"{table.name_of('url')}: its {name} has no effect: the gateway sets it"
    seen: dict[str, str] = {}
    for table, backend in backends:
        first = seen.setdefault(backend.url, table.path)
        if first != table.path:
            yield f"{table.name_of('url')}: is the same server as {first}"
        if not backend.verify and backend.url.startswith("https:"):
            yield f"{table.name_of('verify')}: is false: any server that answers is trusted"


def _of_server(table: Table, server: ServerSettings) -> Iterator[str]:
    if not server.admin_bind.is_loopback and server.admin_token is None:
        yield (
            f"{table.name_of('admin_token')}: is required, since server.admin_bind "
            f"({server.admin_bind}) is not a loopback address"
        )
    if server.admin_bind == server.bind and server.bind.port:
        yield f"{table.name_of('admin_bind')}: is the same address as server.bind: choose another"
    if server.max_body_total < server.max_body:
        total = show_bytes(server.max_body_total)
        yield (
            f"{table.name_of('max_body_total')}: {total} is less than server.max_body "
            f"({show_bytes(server.max_body)}): raise it"
        )
    yield from _of_certificate(table, server, "tls_cert", "tls_key")
    yield from _of_certificate(table, server, "admin_tls_cert", "admin_tls_key")


def _of_certificate(table: Table, server: ServerSettings, *names: str) -> Iterator[str]:
    faults = list(_of_files(table, server, names))
    yield from faults
    cert, key = (getattr(server, name) for name in names)
    if (cert is None) != (key is None):
        missing = names[1] if key is None else names[0]
        yield f"{table.name_of(missing)}: is missing: set both {' and '.join(names)}, or neither"
    if cert is not None and key is not None and not faults:
        try:
            server_context(cert, key)
        except TLSFilesBroken as error:
            yield f"{table.name_of(names[0])}: with {names[1]}: {error}"


def _of_auth(table: Table, auth: AuthSettings, servers: list[ServerSettings]) -> Iterator[str]:
    if bool(auth.anonymous_networks) != (auth.anonymous_key is not None):
        missing = "anonymous_key" if auth.anonymous_networks else "anonymous_networks"
        both = "anonymous_networks and anonymous_key"
        yield f"{table.name_of(missing)}: is missing: set both {both}, or neither"
    if auth.anonymous_key is None:
        return
    from ollama_gateway.errors import Unauthorized  # noqa: PLC0415 - with it come the key stores
    from ollama_gateway.keys.key import read_claim  # noqa: PLC0415

    try:
        read_claim(auth.anonymous_key.reveal())
    except Unauthorized:
        yield f"{table.name_of('anonymous_key')}: is not an API key"
    if any(Origins(server.allowed_origins).are_everyone for server in servers):
        yield (
            f"{table.name_of('anonymous_networks')}: cannot be set while server.allowed_origins "
            "lets in every web page: any page could send requests without a key"
        )


def _of_processes(parts: Sequence[tuple[Table, Any]]) -> Iterator[str]:
    has_redis = any(
        isinstance(value, RedisSettings) and value.url is not None for _, value in parts
    )
    for table, value in parts:
        if isinstance(value, ServerSettings) and value.processes > 1 and not has_redis:
            yield (
                f"{table.name_of('processes')}: more than one process needs redis.url: without it"
                " each process would count the limits of keys for itself"
            )


def _of_redis(table: Table, redis: RedisSettings) -> Iterator[str]:
    if redis.url is not None and (fault := fault_of_redis(redis.url.reveal())):
        yield f"{table.name_of('url')}: {fault}"
    if not SHORTEST_TIMEOUT <= redis.timeout <= LONGEST_TIMEOUT:
        shortest, longest = show_seconds(SHORTEST_TIMEOUT), show_seconds(LONGEST_TIMEOUT)
        yield f"{table.name_of('timeout')}: must be from {shortest} to {longest}"


def _of_storage(table: Table, storage: StorageSettings) -> Iterator[str]:
    if storage.database_url is None:
        return
    if fault := fault_of_database(storage.database_url.reveal()):
        yield f"{table.name_of('database_url')}: {fault}"


def _of_backend(table: Table, backend: BackendSettings) -> Iterator[str]:
    if not backend.models:
        yield f"{table.name_of('models')}: at least one pattern is needed"
    if backend.client_key is not None and backend.client_cert is None:
        yield f"{table.name_of('client_cert')}: is missing: client_key needs it"
    faults = list(_of_files(table, backend, ("ca_file", "client_cert", "client_key")))
    yield from faults
    if backend.url.startswith("https:") and not faults:
        yield from _of_backend_tls(table, backend)


def _of_backend_tls(table: Table, backend: BackendSettings) -> Iterator[str]:
    used = {
        "ca_file": (backend.ca_file, None, None),
        "client_cert": (None, backend.client_cert, backend.client_key),
    }
    for name, paths in used.items():
        if not any(paths):
            continue  # the system's authorities, which take 0.1 s to load
        try:
            client_context(*paths, verify=backend.verify)
        except TLSFilesBroken as error:
            yield f"{table.name_of(name)}: {error}"


def _of_files(table: Table, value: object, keys: Iterable[str]) -> Iterator[str]:
    for key in keys:
        path = getattr(value, key)
        if path is not None and (fault := _unreadable(path)):
            yield f"{table.name_of(key)}: {fault}"


def _unreadable(path: Path) -> str | None:
    try:
        files.open_regular(path).close()
    except (OSError, ValueError) as exc:
        return f"the file {printable(str(path))}: {files.why(exc)}"
    return None
