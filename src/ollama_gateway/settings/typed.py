"""Type a table with cattrs, and turn its errors into lines for the operator.

Every line is `path: message`, and one run finds all problems: if some values of a table are bad,
the table is typed once more without them, so that the checks of several values (`checks.py`) can
run too. That second value never leaves `load`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeVar

import attrs
import cattrs
from cattrs.errors import ClassValidationError, ForbiddenExtraKeysError
from cattrs.v import transform_error

from ollama_gateway.settings.model import BackendSettings
from ollama_gateway.settings.secret import SecretText, read_secret
from ollama_gateway.settings.tables import Table, codec_of
from ollama_gateway.settings.units import discreet
from ollama_gateway.suggestions import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

T = TypeVar("T")

STAND_IN: Final[Mapping[str, object]] = {"name": "stand-in", "url": "http://stand-in"}
"""Used for a backend's missing values while looking for further problems."""

# NUL marks the root: messages and paths escape it, so no value of an operator can contain one.
_ROOT: Final = "\0"


def converter(environ: Mapping[str, str], cwd: Path) -> cattrs.Converter:
    """Return a converter from raw values to settings; it reads secrets from `environ` and files."""

    def secret(value: object, _: object) -> SecretText:
        return read_secret(value, environ, cwd)

    def secret_or_none(value: object, _: object) -> SecretText | None:
        return None if value == "" else read_secret(value, environ, cwd)

    convert = cattrs.Converter(forbid_extra_keys=True, detailed_validation=True)
    convert.register_structure_hook(SecretText, secret)
    convert.register_structure_hook_func(lambda type_: type_ == SecretText | None, secret_or_none)
    convert.register_structure_hook_factory(lambda type_: codec_of(type_) is not None, _by_codec)
    return convert


def _by_codec(type_: object) -> Callable[[object, object], object]:
    codec = codec_of(type_)
    return lambda value, _: codec.read(value) if codec else value


def typed(table: Table, cls: type[T], convert: cattrs.Converter, problems: list[str]) -> T | None:
    """Return the table as `cls`; after problems without the bad values, or None if that fails."""
    try:
        return convert.structure(table.values, cls)
    except ClassValidationError as exc:
        problems += _lines(exc, table, cls)
        bad = {note.name for _, note in exc.group_exceptions()[0]}
    good = {key: value for key, value in table.values.items() if key in _names(cls) - bad}
    try:
        return convert.structure(({**STAND_IN} if cls is BackendSettings else {}) | good, cls)
    except ClassValidationError:
        return None


def _names(cls: type[Any]) -> set[str]:
    return set(attrs.fields_dict(cls))


def _lines(exc: ClassValidationError, table: Table, cls: type[Any]) -> list[str]:
    lines = [
        f"{table.name_of(key)}: unknown setting{did_you_mean(key, sorted(_names(cls)))}"
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
    """Return the name of a path such as `.headers['X-A']`; the table's own for an empty one."""
    key, bracket, others = path.removeprefix(".").partition("[")
    return (
        table.name_of(key) + (discreet(bracket + others) if others else "") if key else table.path
    )


def _format(exc: BaseException, type_: type | None) -> str:  # noqa: ARG001 - cattrs's signature
    match exc:
        case ForbiddenExtraKeysError():
            return ""  # `_lines` reports each key, with the nearest name
        case KeyError():
            return "is missing"
        case ValueError():
            return str(exc)
        case _:
            return "must be a table"  # cattrs reads only dict, for headers; our readers raise above
