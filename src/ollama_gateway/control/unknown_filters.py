"""Tell a filter that is mistyped from one that no request has matched yet.

It is mistyped if neither what is known now nor any record of the whole audit log has such a name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from ollama_gateway.control.errors import NoSuchThing
from ollama_gateway.ledger.read.audit_log import AuditLog, AuditPlace
from ollama_gateway.ledger.read.filtering import ALL, Filter
from ollama_gateway.reasons import Reason, words_of
from ollama_gateway.settings.units import shown
from ollama_gateway.suggestions import did_you_mean

IN_RECORDS: Final = {
    "key": ("key_id", "key_name"),
    "model": ("model",),
    "backend": ("backend",),
    "reason": ("reason",),
}
"""The fields of a record that hold the names that a filter may have."""

KnownNames = Mapping[str, Callable[[], Iterable[str]]]
"""Returns the names that there are now, for keys, models and backends; it may block."""


def unknown_in(place: AuditPlace, wanted: Filter, names: KnownNames) -> list[str]:
    """Return a line for each name in a filter that matched nothing and is known nowhere; blocks."""
    given = {name: str(value) for name in IN_RECORDS if (value := getattr(wanted, name))}
    known = {name: set(names[name]() if name in names else map(str, Reason)) for name in given}
    doubtful = {
        name: Filter(**{name: value})  # type: ignore[arg-type]
        for name, value in given.items()
        if value not in known[name] and not (name == "reason" and words_of(value))
    }
    if not doubtful:
        return []
    faults: list[str] = []
    with place.reading(faults.append) as audit_log:
        for name, one in list(doubtful.items()):
            known[name] |= (found := _names_in(audit_log, name))
            if any(
                one.is_of_model(value) if name == "model" else value == given[name]
                for value in found
            ):
                del doubtful[name]
    if faults:
        return []  # a record that cannot be read might have the name
    return [_line(name, given[name], known[name]) for name in doubtful]


def refuse_unknown(place: AuditPlace, wanted: Filter, names: KnownNames) -> None:
    """Raise NoSuchThing if there is such a name; blocks."""
    if lines := unknown_in(place, wanted, names):
        raise NoSuchThing("; ".join(lines))


def _names_in(audit_log: AuditLog, name: str) -> set[str]:
    """Return the names in all records."""
    sums = audit_log.sums(ALL, IN_RECORDS[name])
    return {value for one in sums for value in one.values if value}


def _line(name: str, value: str, known: set[str]) -> str:
    near = did_you_mean(value, sorted(known))
    return f"no {name} {shown(value)} is known{near}"
