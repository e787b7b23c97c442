"""Tell a filter that is mistyped from one that no request has matched yet.

It is mistyped if neither the settings, nor the key store, nor the running gateway, nor any record
of the whole audit log has such a name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

import attrs

from ollama_gateway.cli.audit.sources import place_of
from ollama_gateway.cli.known_names import backend_names, key_names_and_ids, model_names
from ollama_gateway.cli.output import exit_with
from ollama_gateway.ledger.read.audit_log import AuditLog
from ollama_gateway.ledger.read.filtering import ALL, Filter
from ollama_gateway.reasons import Reason, words_of
from ollama_gateway.settings import Settings
from ollama_gateway.settings.units import shown
from ollama_gateway.suggestions import did_you_mean


@attrs.frozen
class NamedField:
    """A field that a filter can name."""

    known: Callable[[Settings], Iterable[str]]
    """The names that exist, besides those in records."""
    in_records: tuple[str, ...]
    """The fields of a record that hold such names."""


_FIELDS: Final = {
    "key": NamedField(key_names_and_ids, ("key_id", "key_name")),
    "model": NamedField(model_names, ("model",)),
    "backend": NamedField(backend_names, ("backend",)),
    "reason": NamedField(lambda _settings: map(str, Reason), ("reason",)),
}


def exit_if_unknown(settings: Settings, wanted: Filter, command: str) -> None:
    """End the command with code 1 if a name in a filter that matched nothing is known nowhere."""
    given = {name: str(value) for name in _FIELDS if (value := getattr(wanted, name)) is not None}
    known = {name: set(_FIELDS[name].known(settings)) for name in given}
    doubtful = {
        name: Filter(**{name: value})  # type: ignore[arg-type]
        for name, value in given.items()
        if value not in known[name] and not (name == "reason" and words_of(value))
    }
    if not doubtful:
        return
    faults: list[str] = []
    with place_of(settings).reading(faults.append) as audit_log:
        for name, one in list(doubtful.items()):
            known[name] |= (found := _names_in(audit_log, name))
            if any(
                one.is_of_model(value) if name == "model" else value == given[name]
                for value in found
            ):
                del doubtful[name]
    if doubtful and not faults:  # a record that cannot be read might have the name
        exit_with(1, *(_line(command, name, given[name], known[name]) for name in doubtful))


def _names_in(audit_log: AuditLog, name: str) -> set[str]:
    """Return the names in all records."""
    sums = audit_log.sums(ALL, _FIELDS[name].in_records)
    return {value for one in sums for value in one.values if value}


def _line(command: str, name: str, value: str, known: set[str]) -> str:
    near = did_you_mean(value, sorted(known))
    return f"gatewayctl {command}: no {name} {shown(value)} is known{near}"
