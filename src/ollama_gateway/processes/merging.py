"""Merges the readiness and status of several processes into one answer.

The gateway is ready as long as one process is: the processes share the listening socket, and a
process that is still starting accepts no client. The reasons why others are not ready are reported
as degraded. The merged status has the form of one process's status; `RULES` says how to merge each
of its values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

JSONObject = dict[str, Any]
"""A JSON object."""
Answers = Mapping[int, JSONObject | None]
"""By process number; None if the process does not serve or does not answer."""

_SEVERITY: Final = ("closed", "half-open", "open")


def _first(values: list[Any]) -> Any:
    return values[0]


def _first_known(values: list[Any]) -> Any:
    return next((value for value in values if value is not None), None)


def _sum_known(values: list[Any]) -> Any:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _max_known(values: list[Any]) -> Any:
    return max((value for value in values if value is not None), default=None)


def _worst(values: list[Any]) -> Any:
    return max(values, key=_SEVERITY.index)


RULES: Final[Mapping[str, Callable[[list[Any]], Any]]] = {
    "requests": sum,
    "connections": sum,
    "waiting": sum,
    "models": max,
    "settings": _first,
    "limits.store": _first,
    "limits.why_not": _first_known,
    "limits.cause": _first_known,
    "limits.requests": sum,
    "limits.settlements_waiting": sum,
    "limits.spending_file_failing": any,
    "catalog_copy.cause": _first_known,
    "catalog_copy.why_not": _first_known,
    "audit.mode": _first,
    "audit.journal": ", ".join,
    "audit.rows": sum,
    "audit.rows_waiting": sum,
    "audit.failing": any,
    "audit.rows_unmoved": _sum_known,
    "audit.left_alone": _first_known,
    "backends.name": _first,
    "backends.url": _first,
    "backends.priority": _first,
    "backends.slots": sum,
    "backends.up": any,
    "backends.paused": all,
    "backends.in_flight": sum,
    "backends.breaker": _worst,
    "backends.by_model.*.warm": any,
    "backends.by_model.*.breaker": _worst,
    "backends.by_model.*.failing": any,
    "backends.by_model.*.rests_s": max,
    "backends.by_model.*.first_chunk_ms": _max_known,
    "backends.by_model.*.learned_capacity": max,
    "backends.by_model.*.prefill_tokens_per_s": _max_known,
    "backends.error": _first_known,
    "backends.failed_polls": max,
    "backends.version": _first_known,
    "backends.models": max,
    "backends.loaded": max,
}
"""How to merge the values of several processes, by their path in `/status.json`."""
_OF_THE_WHOLE: Final = {"ready", "reasons", "degraded"}


def readiness(answers: Answers, *, is_draining: bool) -> JSONObject:
    """Merge `ready`, `reasons` and `degraded`."""
    known = {number: answer for number, answer in answers.items() if answer is not None}
    ready = not is_draining and any(answer["ready"] for answer in known.values())
    silent = [f"process {number} does not answer" for number in answers if number not in known]
    lacking = [
        f"process {number}: {reason}"
        for number, answer in known.items()
        for reason in answer["reasons"]
    ]
    degraded = _once(what for answer in known.values() for what in answer["degraded"])
    if ready:
        return {"ready": True, "reasons": [], "degraded": [*degraded, *silent, *lacking]}
    reasons = _once(reason for answer in known.values() for reason in answer["reasons"])
    reasons = ["draining"] if is_draining else reasons or ["no process serves"]
    return {"ready": False, "reasons": reasons, "degraded": [*degraded, *silent]}


def _once(lines: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(lines))


def status(answers: Answers, *, is_draining: bool) -> JSONObject:
    """Merge the status of all processes; if none answers, return the readiness alone."""
    known = [answer for answer in answers.values() if answer is not None]
    own = [{k: v for k, v in answer.items() if k not in _OF_THE_WHOLE} for answer in known]
    merged = _merged(own, "") if own else {}
    return {**readiness(answers, is_draining=is_draining), **merged}


def _merged(values: list[Any], path: str) -> Any:
    """Merge the values that several processes have at one path."""
    match values[0]:
        case dict():
            names = list(dict.fromkeys(name for value in values for name in value))
            return {
                name: _merged([v[name] for v in values if name in v], _below(path, name))
                for name in names
            }
        case list():
            named = [{entry["name"]: entry for entry in value} for value in values]
            return [_merged([n[name] for n in named if name in n], path) for name in named[0]]
    return RULES.get(path, _first)(values)


def _below(path: str, name: str) -> str:
    name = "*" if path.endswith(".by_model") else name
    return f"{path}.{name}" if path else name
