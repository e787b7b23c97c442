"""Find faults in the URLs of stores. No message shows a part of one, as it may hold a password."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from ollama_gateway.settings.files import open_regular, why
from ollama_gateway.storage.database import DatabaseError
from ollama_gateway.store_url import StoreURL, WrongURL, scheme_of

LAST_PORT: Final = 65_535


def fault_of_database(text: str) -> str | None:
    """Return the fault of `storage.database_url`, as half a sentence, or None."""
    if scheme_of(text) not in {"postgresql", "postgres"}:
        return "must begin with postgresql://"
    try:
        StoreURL.read(text)
        from ollama_gateway.storage.postgres import Database  # noqa: PLC0415

        Database(text)
    except WrongURL as error:
        return str(error)
    except DatabaseError:
        return "is not a URL that PostgreSQL understands"
    return None


def fault_of_redis(text: str) -> str | None:
    """Return the fault of `redis.url`, as half a sentence, or None."""
    if scheme_of(text) not in {"redis", "rediss", "unix"}:
        return "must begin with redis://, rediss:// or unix://"
    try:
        url = StoreURL.read(text)
    except WrongURL as error:
        return str(error)
    return _fault_of_server(text, url)


def _fault_of_server(text: str, url: StoreURL) -> str | None:
    if any(port is not None and port > LAST_PORT for port in url.ports):
        return "is not a URL: the host or the port is wrong"
    if not _names_a_server(url):
        return "names no server"
    if url.scheme != "unix" and url.path.strip("/") and not url.path.strip("/").isdecimal():
        return "has a path that is not the number of a database"
    if url.query and not _is_understood(text):
        return "has a parameter that the Redis client does not know"
    return _fault_of_tls(url.query) if url.scheme == "rediss" else None


def _fault_of_tls(query: Mapping[str, str]) -> str | None:
    """Return the fault of the files and ciphers that TLS uses; load them as the client does."""
    for name in ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile"):
        try:
            if name in query:
                open_regular(Path(query[name])).close()
        except (OSError, ValueError) as error:
            return f"has a file in {name} that cannot be used: {why(error)}"
    if "ssl_ca_path" in query and not Path(query["ssl_ca_path"]).is_dir():
        return "has an ssl_ca_path that is no directory"
    cert, key = query.get("ssl_certfile"), query.get("ssl_keyfile")
    if key and not cert:
        return "has ssl_keyfile and no ssl_certfile"
    context = ssl.create_default_context()
    try:
        if cert:
            context.load_cert_chain(cert, key, password=query.get("ssl_password", ""))
        if query.keys() & {"ssl_ca_certs", "ssl_ca_path"}:
            context.load_verify_locations(query.get("ssl_ca_certs"), query.get("ssl_ca_path"))
        context.set_ciphers(query.get("ssl_ciphers", "DEFAULT"))
    except (OSError, ValueError):
        return "has ssl_ parameters that cannot be used: certificates and keys must be PEM"
    return None


def overridden_in(text: str) -> list[str]:
    """Return the parameters of a valid `redis.url` in whose place the gateway uses its own."""
    from ollama_gateway.storage.redis import OVERRIDDEN  # noqa: PLC0415

    return sorted(StoreURL.read(text).query.keys() & OVERRIDDEN)


def _is_understood(text: str) -> bool:
    from ollama_gateway.storage.redis import understands  # noqa: PLC0415

    return understands(text)


def _names_a_server(url: StoreURL) -> bool:
    if url.scheme == "unix":
        return bool(url.path) and (url.hosts, url.ports) == (("",), (None,))
    [port] = url.ports if len(url.ports) == 1 else (0,)
    return bool(url.hosts[0]) and port != 0
