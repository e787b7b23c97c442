"""Say what a gateway lacks that is ready all the same, in lines for operators.

A line without names is for those who may not know them: `/readyz` answers whatever `Host` asks
(`admin_access.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ollama_gateway.backends.backend import Backend
from ollama_gateway.backends.backends import Backends
from ollama_gateway.printable import printable

MAX_NAMED: Final = 3
"""Backends or models that a line names; it counts the others."""
_UNITS: Final = (("d", 86_400), ("h", 3600), ("min", 60))


def degraded_backends(backends: Backends, now: float, *, named: bool) -> list[str]:
    """Return a line for backends that are down, and one for models without a live backend.

    A paused backend is not counted as down: an operator knows of it. `now` is a time of the event
    loop's clock.
    """
    down = [b for b in backends.all if b.polls and not b.is_up and not b.is_paused]
    models = backends.models_without_backend(now)
    found = []
    if down:
        count = f"{len(down)} of {len(backends.all)} backends down"
        found.append(_line(count, [_why(backend, now) for backend in down], named=named))
    if models:
        count = f"{len(models)} model{'' if len(models) == 1 else 's'} without a live backend"
        found.append(_line(count, list(map(printable, models)), named=named))
    return found


def _line(count: str, names: Sequence[str], *, named: bool) -> str:
    if not named:
        return count
    others = [f"{len(names) - MAX_NAMED} more"] if len(names) > MAX_NAMED else []
    return f"{count}: {', '.join([*names[:MAX_NAMED], *others])}"


def _why(backend: Backend, now: float) -> str:
    """Return its name, and in brackets why it does not answer, and since when."""
    since = "never answered" if backend.listing is None else shown_for(now - backend.listed_at)
    return f"{backend.name} ({backend.error}, {since})"


def shown_for(seconds: float) -> str:
    """Return a time in its largest unit, rounded down: `4 min`; `under 1 min`."""
    for unit, size in _UNITS:
        if seconds >= size:
            return f"{seconds // size:.0f} {unit}"
    return "under 1 min"
