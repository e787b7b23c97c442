"""From a table to a typed value: cattrs does it, and its errors become lines for the operator.

Every line is `path: message`, and one run finds them all: when some values of a table are bad,
the table is typed once more without them, only so that the checks that look at several values
(`checks.py`) can speak as well. That second value never leaves `load`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeVar

import attrs
import cattrs
from cattrs.errors import ClassValidationError, ForbiddenExtraKeysError
from cattrs.v import transform_error

from ollama_gateway.settings.model import BackendSettings
from ollama_gateway.settings.secret import SecretText, read_secret
from ollama_gateway.settings.tables import Table, codec_of, nearest
from ollama_gateway.settings.units import discreet

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

T = TypeVar("T")

STAND_IN: Final[Mapping[str, object]] = {"name": "stand-in", "url": "http://stand-in"}
"""In place of a backend's own while looking for further problems."""

# Nothing an operator writes puts a NUL into a message or a path: both escape it.
_ROOT: Final = "\0"


def converter(environ: Mapping[str, str], cwd: Path) -> cattrs.Converter:
    """What turns raw values into settings; secrets are looked up in `environ` and below `cwd`."""

    def secret(value: object, _: object) -> SecretText:
        return read_secret(value, environ, cwd)

    def secret_or_none(value: object, _: object) -> SecretText | None:
        return None if value == "" else read_secret(value, environ, cwd)

    made = cattrs.Converter(forbid_extra_keys=True, detailed_validation=True)
    made.register_structure_hook(SecretText, secret)
    made.register_structure_hook_func(lambda type_: type_ == SecretText | None, secret_or_none)
    made.register_structure_hook_factory(lambda type_: codec_of(type_) is not None, _by_codec)
    return made


def _by_codec(type_: object) -> Callable[[object, object], object]:
    codec = codec_of(type_)
    return lambda value, _: codec.read(value) if codec else value


def typed(table: Table, cls: type[T], made: cattrs.Converter, problems: list[str]) -> T | None:
    """The table as `cls`; after problems without the bad values, or None where that is no use."""
    try:
        return made.structure(table.values, cls)
    except ClassValidationError as exc:
        problems += _lines(exc, table, cls)
        bad = {note.name for _, note in exc.group_exceptions()[0]}
    good = {key: value for key, value in table.values.items() if key in _names(cls) - bad}
    try:
        return made.structure(({**STAND_IN} if cls is BackendSettings else {}) | good, cls)
    except ClassValidationError:
        return None


def _names(cls: type[Any]) -> set[str]:
    return set(attrs.fields_dict(cls))


def _lines(exc: ClassValidationError, table: Table, cls: type[Any]) -> list[str]:
    lines = [
        f"{table.name_of(key)}: unknown setting{nearest(key, sorted(_names(cls)))}"
        for error in exc.exceptions
        if isinstance(error, ForbiddenExtraKeysError)
        for key in sorted(error.extra_fields)
    ]
    for line in transform_error(exc, _ROOT, _format):
        message, _, path = line.rpartition(f" @ {_ROOT}")
        if message:
            lines.append(f"{_path(path, table)}: {message}")
    return lines


def _path(path: str, table: Table) -> str:
    """`.headers['X-A']` under its table; the table itself for what concerns it whole."""
    key, bracket, others = path.removeprefix(".").partition("[")
    return (
        table.name_of(key) + (discreet(bracket + others) if others else "") if key else table.path
    )


def _format(exc: BaseException, type_: type | None) -> str:  # noqa: ARG001 - cattrs's signature
    match exc:
        case ForbiddenExtraKeysError():
            return ""  # told one by one, with the nearest name
        case KeyError():
            return "is missing"
        case ValueError():
            return str(exc)
        case _:
            return "must be a table"  # the one reader that is not ours: dict, for headers
