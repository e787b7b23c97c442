"""Secrets: values that can be used but not printed.

Only `reveal()` returns the text of a `SecretText`. It is not an attrs class, because `attrs.asdict`
and `attrs.astuple` would open it. In the settings a secret is a string, `{ env = "NAME" }` or
`{ file = "/run/secrets/name" }`. Errors name the variable or the file, never the content, and do
not repeat a string that may be the secret itself.
"""

from __future__ import annotations

import hmac
import re
from typing import TYPE_CHECKING, Final, final

from ollama_gateway.settings import addresses, files
from ollama_gateway.settings.units import discreet, shown

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

MAX_SECRET_BYTES: Final = 64 * 1024
"""Bytes of the largest file with a secret."""

_FORMS: Final = 'must be a string, { env = "NAME" } or { file = "PATH" }'

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_LINE = re.compile(r"[!-~](?:[ -~]*[!-~])?")


@final
class SecretText:
    """A text that no repr, str, format, asdict or JSON shows."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """Return the text, for the code that sends or compares it."""
        return self._text

    def __repr__(self) -> str:
        return "SecretText(...)"

    def __format__(self, spec: str) -> str:
        return format(repr(self), spec)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SecretText):
            return NotImplemented
        return hmac.compare_digest(_encoded(self), _encoded(other))

    def __hash__(self) -> int:
        return hash(self._text)


def _encoded(secret: SecretText) -> bytes:
    return secret.reveal().encode("utf-8", "surrogatepass")


def read_secret(value: object, environ: Mapping[str, str], cwd: Path) -> SecretText:
    """Read a secret from its setting; raises `ValueError` without the content.

    Args:
        value: the string itself, `{"env": NAME}` or `{"file": PATH}`.
        environ: the variables; an empty one counts as not set.
        cwd: the base of relative paths.

    """
    match value:
        case str():
            return _checked(value, "it")
        case {"env": str(name), **others} if not others:
            return _from_variable(name, environ)
        case {"file": str(name), **others} if not others:
            return _from_file(name, cwd)
        case _:
            raise ValueError(_FORMS)


def _checked(text: str, source: str) -> SecretText:
    """Require that a header can carry the text, whatever the secret is for: one rule for all."""
    if not text:
        raise ValueError(f"{source} is empty")
    if not _LINE.fullmatch(text):
        raise ValueError(f"{source} is not one line of printable ASCII without blanks at its ends")
    return SecretText(text)


def _from_variable(name: str, environ: Mapping[str, str]) -> SecretText:
    if not _VARIABLE.fullmatch(name):
        # Not repeated: it is most likely the secret itself.
        raise ValueError("the value of env is not the name of an environment variable")
    if not environ.get(name):
        raise ValueError(f"the environment variable {shown(name)} is not set")
    return _checked(environ[name], f"the environment variable {name}")


def _from_file(name: str, cwd: Path) -> SecretText:
    try:
        text = files.read_text(cwd / addresses.path(name), MAX_SECRET_BYTES)
    except (OSError, ValueError) as exc:
        raise ValueError(f"the file {discreet(name)}: {files.why(exc)}") from None
    text = text.removesuffix("\n").removesuffix("\r")
    return _checked(text, f"the file {discreet(name)}")
