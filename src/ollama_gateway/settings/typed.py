"""Turn a table of raw values into a settings class, and problems into lines for the operator.

Every line is `path: message`, and one run finds all problems: a bad value is left out and the rest
of the table is typed, so that the checks of several values (`checks.py`) can run too. A value made
after a problem never leaves `load`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeVar

import attrs

from ollama_gateway.settings.load_rules import ModelSettings
from ollama_gateway.settings.model import BackendSettings, fields_of
from ollama_gateway.settings.secret import SecretText, read_secret
from ollama_gateway.settings.tables import Table, codec_of
from ollama_gateway.settings.units import discreet
from ollama_gateway.suggestions import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

T = TypeVar("T")

STAND_INS: Final[Mapping[type[Any], Mapping[str, object]]] = {
    BackendSettings: {"name": "stand-in", "url": "http://stand-in"},
    ModelSettings: {"match": "stand-in"},
}
"""Used for missing values while looking for further problems."""


@attrs.frozen
class Secrets:
    """The variables and files that secrets are read from."""

    environ: Mapping[str, str] = attrs.field(repr=False)
    cwd: Path
    """The base of relative paths."""

    def read(self, value: object) -> SecretText:
        """Read a secret; raises `ValueError` without its content."""
        return read_secret(value, self.environ, self.cwd)


def typed(table: Table, cls: type[T], secrets: Secrets, problems: list[str]) -> T:
    """Return the table as `cls`; after problems, without the bad values."""
    problems += _unknown(table, cls)
    values = {**STAND_INS.get(cls, {})}
    for field in fields_of(cls):
        path, before = table.name_of(field.name), len(problems)
        if field.name in table.values:
            value = _read(path, table.values[field.name], field.type, secrets, problems)
            if len(problems) == before:
                values[field.name] = value
        elif field.default is attrs.NOTHING:
            problems.append(f"{path}: is missing")
    return cls(**values)


def _unknown(table: Table, cls: type[Any]) -> list[str]:
    known = sorted(attrs.fields_dict(cls))
    return [
        f"{table.name_of(key)}: unknown setting{did_you_mean(key, known)}"
        for key in sorted(table.values.keys() - set(known))
    ]


def _read(
    path: str, value: object, annotation: object, secrets: Secrets, problems: list[str]
) -> object:
    """Return a value in the unit of the program; after a problem, None."""
    if codec := codec_of(annotation):
        return _noted(path, codec.read, value, problems)
    if annotation == dict[str, SecretText]:
        if not isinstance(value, dict):
            problems.append(f"{path}: must be a table")
            return None
        return {
            name: _noted(path + discreet(f"[{name!r}]"), secrets.read, one, problems)
            for name, one in value.items()
        }
    if value == "" and annotation == SecretText | None:
        return None
    return _noted(path, secrets.read, value, problems)


def _noted(
    path: str, read: Callable[[object], object], value: object, problems: list[str]
) -> object:
    """Read a value, or note why it is wrong and return None."""
    try:
        return read(value)
    except ValueError as error:
        problems.append(f"{path}: {error}")
        return None
