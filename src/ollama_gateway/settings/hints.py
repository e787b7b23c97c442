"""Hints: settings that are in order, but may not do what their author expects."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ollama_gateway.settings.model import BackendSettings


def hints(backends: Sequence[BackendSettings]) -> Iterator[str]:
    """Yield a line where one backend gets all requests while others only stand by."""
    first = min((backend.priority for backend in backends), default=0)
    tier = [backend for backend in backends if backend.priority == first]
    if len(tier) != 1 or len(backends) == 1:
        return
    (alone,) = tier
    if alone.slots == 0 and "*" in alone.models:
        yield (
            f"backends: while {alone.name} is up, it gets all requests for its models: no other has"
            f" its priority ({first}), and it has no slots; equal priorities share the load"
        )
