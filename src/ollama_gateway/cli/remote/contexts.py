"""Contexts: gateways by name, in a file of this user's own, and which of them is in use.

The file names token files and holds no token. Its owner decides to whom tokens are sent, so a file
that another user could have written, or that others may read, is refused.
"""

from __future__ import annotations

import json
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import attrs

from ollama_gateway.cli.remote.choice import path_of_contexts
from ollama_gateway.printable import printable

VERSION: Final = 1
MAX_FILE_BYTES: Final = 2**20
MODE: Final = 0o600


class ContextsBroken(Exception):
    """The file of contexts cannot be used; the message is one printable line."""


@attrs.frozen
class GatewayContext:
    """A gateway by name; the paths are absolute."""

    server: str
    """The URL of its admin listener."""
    token_file: Path | None = None
    ca_file: Path | None = None

    def document(self) -> dict[str, str | None]:
        """Return it as JSON has it."""
        return {
            "server": self.server,
            "token_file": None if self.token_file is None else str(self.token_file),
            "ca_file": None if self.ca_file is None else str(self.ca_file),
        }


@attrs.frozen
class Contexts:
    """All contexts."""

    by_name: dict[str, GatewayContext] = attrs.field(factory=dict)
    in_use: str | None = None
    """The one for commands that name no gateway."""

    def document(self) -> dict[str, Any]:
        """Return them as the file has them."""
        contexts = {name: one.document() for name, one in self.by_name.items()}
        return {"version": VERSION, "in_use": self.in_use, "contexts": contexts}


def read_contexts() -> Contexts:
    """Read the file; without one there are no contexts. Raises ContextsBroken."""
    path = path_of_contexts()
    try:
        return _read(_content(path))
    except FileNotFoundError:
        return Contexts()
    except NotADirectoryError:  # as in containers, where a user's home may be /dev/null
        return Contexts()
    except OSError as error:
        raise _broken(path, (error.strerror or "cannot be read").lower()) from None
    except _Wrong as error:
        raise _broken(path, str(error)) from None


def write_contexts(contexts: Contexts) -> None:
    """Replace the file; raises ContextsBroken."""
    path = path_of_contexts()
    new = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with suppress(FileNotFoundError):
            new.unlink()
        with os.fdopen(os.open(new, flags, MODE), "w", encoding="utf-8") as file:
            os.fchmod(file.fileno(), MODE)  # whatever the umask
            json.dump(contexts.document(), file, indent=2)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except OSError as error:
        raise _broken(path, (error.strerror or "cannot be written").lower()) from None


class _Wrong(Exception):
    """Half a sentence about the file."""


def _content(path: Path) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb", closefd=True) as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise _Wrong("not a file")
        if status.st_uid != os.geteuid():
            raise _Wrong(f"belongs to another user (uid {status.st_uid})")
        if stat.S_IMODE(status.st_mode) != MODE:
            raise _Wrong(f"has the mode {stat.S_IMODE(status.st_mode):04o}: run chmod 600 on it")
        content = file.read(MAX_FILE_BYTES + 1)
    if len(content) > MAX_FILE_BYTES:
        raise _Wrong(f"larger than {MAX_FILE_BYTES >> 20} MiB")
    return content


def _read(content: bytes) -> Contexts:
    try:
        found = json.loads(content.decode())
    except (ValueError, RecursionError):
        raise _Wrong("not JSON") from None
    match found:
        case {"version": int(version)} if version > VERSION:
            raise _Wrong("is of a newer gatewayctl")
        case {"version": 1, "in_use": str() | None as in_use, "contexts": {**contexts}}:
            return Contexts({str(name): _context(one) for name, one in contexts.items()}, in_use)
    raise _Wrong("holds no contexts")


def _context(found: object) -> GatewayContext:
    match found:
        case {
            "server": str(server),
            "token_file": str() | None as token_file,
            "ca_file": str() | None as ca_file,
        }:
            return GatewayContext(server, _path(token_file), _path(ca_file))
    raise _Wrong("holds something that is no context")


def _path(text: str | None) -> Path | None:
    return None if text is None else Path(text)


def _broken(path: Path, fault: str) -> ContextsBroken:
    return ContextsBroken(f"{printable(str(path))}: {fault}")
