"""Refuse files with secrets that other users may write.

Another user who can write such a file decides which token opens the admin listener and which
database holds the keys. Users who can only read it are left to the operator: podman and Kubernetes
mount secrets readable.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any

import attrs

from ollama_gateway.printable import printable
from ollama_gateway.settings.model import BackendSettings, ServerSettings
from ollama_gateway.settings.secret import SecretText
from ollama_gateway.settings.tables import Table
from ollama_gateway.storage.write_access import Trusted, remedy

PARTS = Sequence[tuple[Table, Any]]


@attrs.frozen
class Sources:
    """The files that settings were read from."""

    cwd: Path
    file: Path | None
    """The TOML file."""
    dotenv: AbstractSet[str]
    """The variables that `./.env` gave."""

    def holder(self, table: Table, key: str, value: object) -> Path | None:
        """Return the file that holds a secret, or None if the environment itself holds it."""
        match value:
            case {"file": str(name)}:
                return self.cwd / Path(name).expanduser()
            case {"env": str(variable)}:
                return self._of_variable(variable)
        if key in table.variables:
            return self._of_variable(table.variables[key])
        if table.origin == "environment":
            return self._of_variable("OLLAMA_BACKENDS")
        return self.file

    def _of_variable(self, name: str) -> Path | None:
        return self.cwd / ".env" if name in self.dotenv else None


def faults(parts: PARTS, sources: Sources, trusted: Trusted) -> Iterator[str]:
    """Yield a problem for each file with a secret that other users may write or replace."""
    seen: set[Path] = set()
    for name, path in (*_of_secrets(parts, sources), *_keys_of_tls(parts, sources)):
        if path not in seen:
            seen.add(path)
            if fault := _fault(path, trusted):
                yield f"{name}: the file {printable(str(path))} {fault}: {remedy(fault)}"


def _of_secrets(parts: PARTS, sources: Sources) -> Iterator[tuple[str, Path]]:
    for table, settings in parts:
        for key, value in attrs.asdict(settings, recurse=False).items():
            raw: Iterable[object] = ()
            if isinstance(value, SecretText):
                raw = (table.values[key],)
            elif isinstance(value, dict):  # headers
                raw = value and dict(table.values[key]).values()  # type: ignore[call-overload]
            for given in raw:
                if path := sources.holder(table, key, given):
                    yield table.name_of(key), path


def _keys_of_tls(parts: PARTS, sources: Sources) -> Iterator[tuple[str, Path]]:
    for table, settings in parts:
        if isinstance(settings, ServerSettings) and settings.tls_key:
            yield table.name_of("tls_key"), sources.cwd / settings.tls_key
        if isinstance(settings, BackendSettings) and (
            key := settings.client_key or settings.client_cert
        ):
            name = "client_key" if settings.client_key else "client_cert"
            yield table.name_of(name), sources.cwd / key


def _fault(path: Path, trusted: Trusted) -> str | None:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            return None  # the reader of the file reports it
        return trusted.fault_of(status) or trusted.fault_around(path)
    except OSError:
        return None  # the reader of the file reports it
