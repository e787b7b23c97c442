"""Read the files that settings come from: the TOML file, `./.env`, files with secrets.

An error with a file is reported in half a line that shows neither its content nor the name of a
library. Only regular files are read, and never more than a limit: a named pipe would hang the
start, a device would never end. A file that the operator names must exist. A file in one of the
usual directories may be absent, but one that exists and cannot be read is a problem, never skipped.
"""

from __future__ import annotations

import io
import re
import stat
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from ollama_gateway.printable import printable
from ollama_gateway.settings import addresses
from ollama_gateway.settings.units import discreet

if TYPE_CHECKING:
    from collections.abc import Mapping

_KEYS: Final = re.compile(
    r"""(declare|namespace|key)\s(?: \(.*\) | '.*' | ".*" )(?= \s twice | \s \(at\s )""",
    re.DOTALL | re.VERBOSE,
)

MAX_SETTINGS_BYTES: Final = 1024 * 1024
"""Bytes of the largest settings file."""

SYSTEM_FILE: Path = Path("/etc/ollama-gateway/gateway.toml")
"""Read when there is no other file."""


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file for reading; raises OSError, ValueError."""
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode):
        raise ValueError("is a directory" if stat.S_ISDIR(mode) else "is not a regular file")
    return path.open("rb")


def read_text(path: Path, limit: int = MAX_SETTINGS_BYTES) -> str:
    """Read a regular file of UTF-8 text, at most `limit` bytes; raises OSError, ValueError."""
    with open_regular(path) as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise ValueError(f"is larger than {limit} bytes")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        # From None: the decoder's message shows a byte of the content.
        raise ValueError("is not UTF-8 text") from None


def why(exc: OSError | ValueError) -> str:
    """Return the reason why a file cannot be used, in a few words."""
    if isinstance(exc, OSError):
        return (exc.strerror or "cannot be read").lower()
    return str(exc)


def find(
    config: Path | None, environ: Mapping[str, str], cwd: Path, problems: list[str]
) -> tuple[Path | None, dict[str, Any]]:
    """Return the settings file, if any, and its document, which is empty after a problem."""
    named = config if config is not None else environ.get("GATEWAY_CONFIG")
    if named is not None:
        return _read_named(str(named), cwd, problems)
    for candidate in (cwd / "gateway.toml", SYSTEM_FILE):
        try:
            return candidate, _parse(read_text(candidate))
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as exc:
            problems.append(f"{printable(str(candidate))}: {why(exc)}")
            return candidate, {}
    return None, {}


def _read_named(text: str, cwd: Path, problems: list[str]) -> tuple[Path | None, dict[str, Any]]:
    try:
        path = cwd / addresses.path(text)
        return path, _parse(read_text(path))
    except (OSError, ValueError) as exc:
        problems.append(f"{discreet(text)}: {why(exc)}")
        return None, {}


def _parse(text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as exc:
        # Some of these messages show keys of the document.
        message = _KEYS.sub(r"\1", str(exc))
        raise ValueError(f"is not TOML: {printable(message)}") from None
    except RecursionError:
        raise ValueError("is not TOML: nested too deeply") from None
    except ValueError:
        # The only other cause: int() refuses a number of thousands of digits.
        raise ValueError("is not TOML: it holds a number that is too long") from None


def read_dotenv(cwd: Path, problems: list[str]) -> dict[str, str]:
    """Read the variables of `./.env`; none if it is absent. `${NAME}` is not expanded."""
    try:
        if (cwd / ".env").is_dir():
            return {}  # virtual environments often have this name
        text = read_text(cwd / ".env")
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as exc:
        problems.append(f".env: {why(exc)}")
        return {}
    from dotenv import dotenv_values  # noqa: PLC0415 - few have such a file

    found = dotenv_values(stream=io.StringIO(text), interpolate=False)
    return {name: value for name, value in found.items() if value is not None}
