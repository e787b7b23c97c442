"""Compare settings: what a reload would change, and which changes need a restart.

Values are in the form of a settings file; of a secret only whether it is set, and that it differs.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import attrs

from ollama_gateway.settings.alias_table import show_alias
from ollama_gateway.settings.model import SECTIONS, BackendSettings, fields_of
from ollama_gateway.settings.secret import SecretText
from ollama_gateway.settings.tables import codec_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ollama_gateway.models.aliases import Aliases
    from ollama_gateway.settings.model import Settings

NEEDS_RESTART: Final = frozenset(
    {
        "server.bind",
        "server.admin_bind",
        "server.processes",
        "server.max_connections",
        "storage.data_dir",
        "storage.database_url",
        "redis.url",
        "audit.chain_key",
    }
)
"""Settings of parts that live as long as the process: addresses, stores, the chain."""
SHORTER_NEEDS_RESTART: Final = "audit.keep"
"""May only grow: what a shorter time drops is lost, so that is not for a slip in a file."""


@attrs.frozen
class Change:
    """One setting that differs."""

    path: str
    """`race.hedge_after`, `backends[gpu-1].slots`; `backends[gpu-2]` for a whole backend, whose
    value is its URL; `backends` for their order."""
    before: Any
    after: Any
    needs_restart: bool = False


def changes(old: Settings, new: Settings) -> list[Change]:
    """Return what differs, in the order of the settings file."""
    found = [
        change
        for name in SECTIONS
        for change in _between(name, getattr(old, name), getattr(new, name))
    ]
    return [
        *found,
        *_of_backends(old.backends, new.backends),
        *_of_aliases(old.aliases, new.aliases),
    ]


def visible(value: object, annotation: object) -> Any:
    """Return a setting's value as JSON can hold it, without any secret."""
    if isinstance(value, SecretText):
        return "(set)"
    if isinstance(value, dict):
        return {name: visible(item, SecretText) for name, item in value.items()}
    codec = codec_of(annotation)
    # Only secrets have no codec.
    return codec.show(value) if codec else "(not set)"


def _between(path: str, old: Any, new: Any) -> Iterator[Change]:
    """Compare two tables of settings."""
    for field in fields_of(type(old)):
        before, after = getattr(old, field.name), getattr(new, field.name)
        if before == after:
            continue
        name = f"{path}.{field.name}"
        shown, then = visible(before, field.type), visible(after, field.type)
        if then == shown:  # a secret
            then = "(set, another)"
        is_shorter = name == SHORTER_NEEDS_RESTART and after < before
        yield Change(name, shown, then, needs_restart=is_shorter or name in NEEDS_RESTART)


def _of_aliases(old: Aliases, new: Aliases) -> Iterator[Change]:
    before, after = ({alias.name: alias for alias in some.all} for some in (old, new))
    for name in {**before, **after}:
        shown, then = (show_alias(some[name]) if name in some else None for some in (before, after))
        if shown != then:
            yield Change(f"aliases.{json.dumps(name)}", shown, then)
    order, ordered = [n for n in before if n in after], [n for n in after if n in before]
    if order != ordered:
        yield Change("aliases", ", ".join(order), ", ".join(ordered))


def _of_backends(
    old: tuple[BackendSettings, ...], new: tuple[BackendSettings, ...]
) -> Iterator[Change]:
    before, after = ({backend.name: backend for backend in some} for some in (old, new))
    for name in {**before, **after}:
        path = f"backends[{name}]"
        if name not in after:
            yield Change(path, before[name].url, None)
        elif name not in before:
            yield Change(path, None, after[name].url)
        else:
            yield from _between(path, before[name], after[name])
    order, ordered = [n for n in before if n in after], [n for n in after if n in before]
    if order != ordered:
        yield Change("backends", ", ".join(order), ", ".join(ordered))
