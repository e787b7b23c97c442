"""What several processes say of themselves, as one answer.

The gateway is ready as long as one process is: they share the listening socket, so clients come to
whoever accepts, and a process that is starting accepts nobody. What the others lack is told as
degraded. A status has the form that one process gives it; `RULES` says for each of its figures how
the processes' become one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

JSONObject = dict[str, Any]
"""A JSON object."""
Answers = Mapping[int, JSONObject | None]
"""By process number; None where one does not serve, or does not answer."""

_SEVERITY: Final = ("closed", "half-open", "open")


def _first(values: list[Any]) -> Any:
    return values[0]


def _first_known(values: list[Any]) -> Any:
    return next((value for value in values if value is not None), None)


def _sum_known(values: list[Any]) -> Any:
    told = [value for value in values if value is not None]
    return sum(told) if told else None


def _max_known(values: list[Any]) -> Any:
    return max((value for value in values if value is not None), default=None)


def _worst(values: list[Any]) -> Any:
    return max(values, key=_SEVERITY.index)


RULES: Final[Mapping[str, Callable[[list[Any]], Any]]] = {
    "requests": sum,
    "connections": sum,
    "waiting": sum,
    "models": max,
    "limits.store": _first,
    "limits.why_not": _first_known,
    "limits.requests": sum,
    "limits.settlements_waiting": sum,
    "limits.spending_file_failing": any,
    "audit.mode": _first,
    "audit.journal": ", ".join,
    "audit.rows": sum,
    "audit.rows_waiting": sum,
    "audit.failing": any,
    "audit.rows_unmoved": _sum_known,
    "audit.left_alone": _first_known,
    "backends.name": _first,
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
    "backends.error": _first_known,
    "backends.failed_polls": max,
    "backends.version": _first_known,
    "backends.models": max,
    "backends.loaded": max,
}
"""How the figures of several processes become one, by their places in `/status.json`."""
_OF_THE_WHOLE: Final = {"ready", "reasons", "degraded"}


def readiness(answers: Answers, *, is_draining: bool) -> JSONObject:
    """`ready`, `reasons`, `degraded` of all, from each one's own."""
    told = {number: answer for number, answer in answers.items() if answer is not None}
    ready = not is_draining and any(answer["ready"] for answer in told.values())
    silent = [f"process {number} does not answer" for number in answers if number not in told]
    lacking = [
        f"process {number}: {reason}"
        for number, answer in told.items()
        for reason in answer["reasons"]
    ]
    degraded = _once(what for answer in told.values() for what in answer["degraded"])
    if ready:
        return {"ready": True, "reasons": [], "degraded": [*degraded, *silent, *lacking]}
    reasons = _once(reason for answer in told.values() for reason in answer["reasons"])
    reasons = ["draining"] if is_draining else reasons or ["no process serves"]
    return {"ready": False, "reasons": reasons, "degraded": [*degraded, *silent]}


def _once(lines: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(lines))


def status(answers: Answers, *, is_draining: bool) -> JSONObject:
    """The status of all together, in the form of one; without one that answers its readiness."""
    told = [answer for answer in answers.values() if answer is not None]
    own = [{k: v for k, v in answer.items() if k not in _OF_THE_WHOLE} for answer in told]
    merged = _merged(own, "") if own else {}
    return {**readiness(answers, is_draining=is_draining), **merged}


def _merged(values: list[Any], place: str) -> Any:
    """One value out of those that several processes have at one place."""
    match values[0]:
        case dict():
            names = list(dict.fromkeys(name for value in values for name in value))
            return {
                name: _merged([v[name] for v in values if name in v], _below(place, name))
                for name in names
            }
        case list():
            named = [{entry["name"]: entry for entry in value} for value in values]
            return [_merged([n[name] for n in named if name in n], place) for name in named[0]]
    return RULES.get(place, _first)(values)


def _below(place: str, name: str) -> str:
    name = "*" if place.endswith(".by_model") else name
    return f"{place}.{name}" if place else name
