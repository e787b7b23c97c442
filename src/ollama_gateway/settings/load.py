"""Make `Settings` from a file and the environment, or report every problem with them.

After a problem `load` goes on as long as it can find more, and raises one `SettingsError` with all
of them. No content of a file or variable makes it raise anything else. The steps: `files` finds and
reads, `tables` lays the environment over the document, `typed` gives units and types, `checks`
looks at several values together.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs

from ollama_gateway.settings import checks, files, holders, tables
from ollama_gateway.settings.alias_table import read_aliases
from ollama_gateway.settings.hints import hints
from ollama_gateway.settings.load_rules import ModelSettings
from ollama_gateway.settings.model import (
    SECTIONS,
    BackendSettings,
    Settings,
    StorageSettings,
)
from ollama_gateway.settings.typed import Secrets, typed
from ollama_gateway.storage.write_access import Trusted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ollama_gateway.settings.tables import Origin, Table

_LONGEST_LINE: Final = 500
_ASK_FOR_TRACES: Final = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


class SettingsError(Exception):
    """Settings that cannot be used.

    Args:
        problems: all problems, each a line `path: message` without any secret.
        source: the settings file, if there is one that can be read.

    """

    def __init__(self, problems: tuple[str, ...], source: Path | None = None) -> None:
        self.problems = problems
        self.source = source
        super().__init__("\n".join(problems))


@attrs.frozen
class Loaded:
    """The settings in force, and their sources."""

    settings: Settings
    source: Path | None
    """The TOML file, if any."""
    warnings: tuple[str, ...] = ()
    """Values that are allowed but doubtful, as lines `path: message`."""
    hints: tuple[str, ...] = attrs.field(default=(), kw_only=True)
    """Settings that may not do what their author expects, as such lines."""
    origins: Mapping[str, Origin] = attrs.field(factory=dict)
    """The source of each setting's value, by its path (`server.bind`, `backends[0].url`)."""


def load(
    config: Path | None = None,
    environ: Mapping[str, str] = os.environ,
    cwd: Path = Path(),
) -> Loaded:
    """Return the settings in force; raises `SettingsError`.

    Args:
        config: the file that the command line names.
        environ: the environment; `cwd/.env` adds variables it lacks, empty values count as unset.
        cwd: the base of relative paths, and the directory of `gateway.toml` and `.env`.

    """
    problems: list[str] = []
    given, dotenv = _without_empty(environ), files.read_dotenv(cwd, problems)
    env = _without_empty({**dotenv, **given})
    source, document = files.find(config, env, cwd, problems)
    secrets = Secrets(env, cwd)

    sections = [
        (table, typed(table, SECTIONS[name], secrets, problems))
        for name, table in tables.sections(document, env, problems).items()
    ]
    listed = tables.backends(document, env, problems)
    backends = [
        (table, typed(_with_priority(table, position), BackendSettings, secrets, problems))
        for position, table in enumerate(listed, start=1)
    ]

    models = [
        (table, typed(table, ModelSettings, secrets, problems))
        for table in tables.models(document, problems)
    ]
    aliases, aliases_from = read_aliases(document, env, problems)

    problems += [*checks.of_sections(sections), *checks.of_backends(backends)]
    problems += checks.of_shares(sections, backends)
    if not any(isinstance(v, StorageSettings) and v.allow_shared_data_dir for _, v in sections):
        sources = holders.Sources(cwd, source, dotenv.keys() - given.keys())
        problems += holders.faults([*sections, *backends], sources, Trusted.of_process())
    problems += [*checks.duplicates(listed), *checks.of_header_names(listed)]
    if problems:
        raise SettingsError(tuple(dict.fromkeys(map(_clipped, problems))), source)
    otel, doubts = _otel(env)
    settings = Settings(
        **{table.path: value for table, value in sections},
        backends=tuple(backend for _, backend in backends),
        models=tuple(rules for _, rules in models),
        aliases=aliases,
        otel=otel,
        source=source and source.absolute(),
    )
    warnings = [*tables.unknown_variables(env), *checks.warnings(sections, backends), *doubts]
    return Loaded(
        settings,
        source,
        tuple(map(_clipped, warnings)),
        {**_origins(sections, backends, models), "aliases": aliases_from},
        hints=tuple(hints(settings.backends)),
    )


def _otel(env: Mapping[str, str]) -> tuple[tuple[tuple[str, str], ...], list[str]]:
    """Return OpenTelemetry's variables, if they say where traces go, and warnings about them."""
    if not any(name in env for name in _ASK_FOR_TRACES):
        return (), []
    from ollama_gateway.tracing.environment import read_tracing  # noqa: PLC0415 - see above

    tracing, warnings = read_tracing(env)
    if tracing is None:
        return (), warnings
    return tuple(item for item in env.items() if item[0].startswith("OTEL_")), warnings


def _without_empty(environ: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environ.items() if value}


def _with_priority(table: Table, position: int) -> Table:
    """Give a backend without a priority its position in the list."""
    return attrs.evolve(table, values={"priority": position, **table.values})


def _clipped(line: str) -> str:
    return line if len(line) <= _LONGEST_LINE else line[:_LONGEST_LINE] + "..."


def _origins(
    sections: list[tuple[Table, Any]],
    backends: list[tuple[Table, BackendSettings]],
    models: list[tuple[Table, ModelSettings]],
) -> dict[str, Origin]:
    named = [(table.path, table, value) for table, value in sections]
    named += [(f"backends[{i}]", table, value) for i, (table, value) in enumerate(backends)]
    named += [(f"models[{i}]", table, value) for i, (table, value) in enumerate(models)]
    return {
        f"{path}.{field.name}": table.origin_of(field.name)
        for path, table, value in named
        for field in attrs.fields(type(value))
    }
