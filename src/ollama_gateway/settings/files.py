"""Reading the few files that settings come from: the TOML file, `./.env`, files with secrets.

What goes wrong with a file is told in half a line that names neither its content nor a library.
Only regular files are read, and never more than a limit: a named pipe would hang the start, a
device would never end. A file that was asked for by name must be there; one of the usual places
may be absent, but one that is there and cannot be read is a problem, never skipped.
"""

from __future__ import annotations

import io
import re
import stat
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from dotenv import dotenv_values

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
"""Bytes; the largest file of settings."""

SYSTEM_FILE: Path = Path("/etc/ollama-gateway/gateway.toml")
"""Read when nothing nearer is there."""


def open_regular(path: Path) -> BinaryIO:
    """A regular file, open for reading; raises OSError, ValueError."""
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode):
        raise ValueError("is a directory" if stat.S_ISDIR(mode) else "is not a regular file")
    return path.open("rb")


def read_text(path: Path, limit: int = MAX_SETTINGS_BYTES) -> str:
    """The text of a regular file in UTF-8 of at most `limit` bytes; raises OSError, ValueError."""
    with open_regular(path) as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise ValueError(f"is larger than {limit} bytes")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        # From None: the codec's text shows a byte of the content.
        raise ValueError("is not UTF-8 text") from None


def why(exc: OSError | ValueError) -> str:
    """What went wrong with a file, in a few words."""
    if isinstance(exc, OSError):
        return (exc.strerror or "cannot be read").lower()
    return str(exc)


def find(
    config: Path | None, environ: Mapping[str, str], cwd: Path, problems: list[str]
) -> tuple[Path | None, dict[str, Any]]:
    """The file the settings come from, if any, and its document; empty when it is no good."""
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
        # Some of its texts name the keys of the document.
        what = _KEYS.sub(r"\1", str(exc))
        raise ValueError(f"is not TOML: {printable(what)}") from None
    except RecursionError:
        raise ValueError("is not TOML: nested too deeply") from None
    except ValueError:
        # The only other one: int() refuses a number of thousands of digits.
        raise ValueError("is not TOML: it holds a number that is too long") from None


def read_dotenv(cwd: Path, problems: list[str]) -> dict[str, str]:
    """The variables of `./.env`; none when it is absent. `${NAME}` stays as it stands."""
    try:
        if (cwd / ".env").is_dir():
            return {}  # a virtual environment is often called that
        text = read_text(cwd / ".env")
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as exc:
        problems.append(f".env: {why(exc)}")
        return {}
    found = dotenv_values(stream=io.StringIO(text), interpolate=False)
    return {name: value for name, value in found.items() if value is not None}
