"""The backends of a running gateway, as documents."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ollama_gateway.control.suggesting import unknown_backend

if TYPE_CHECKING:  # commands that only say a name is unknown need no client
    from ollama_gateway.backends.backend import Backend
    from ollama_gateway.backends.backends import Backends

BackendDocument = dict[str, Any]


def backend_named(backends: Backends, name: str) -> Backend:
    """Return a backend; raises NoSuchThing."""
    backend = backends.named(name)
    if backend is None:
        raise unknown_backend(name, [one.name for one in backends.all])
    return backend


def backend_document(backend: Backend, now: float) -> BackendDocument:
    """Return a backend's state; `now` is a time of the event loop's clock."""
    listing = backend.listing
    return {
        "name": backend.name,
        "url": str(backend.url),
        "priority": backend.priority,
        "slots": backend.slots,
        "up": backend.is_up,
        "paused": backend.is_paused,
        "in_flight": backend.in_flight,
        **facts_of(backend, now),
        "error": backend.error,
        "failed_polls": backend.failed_polls,
        "version": listing.version if listing else None,
        "models": len(listing.models) if listing else 0,
        "loaded": len(listing.running) if listing else 0,
    }


def facts_of(backend: Backend, now: float) -> BackendDocument:
    """Return what a document has of a backend's breakers, backoffs and first chunks."""
    return {
        "breaker": backend.breaker.state(now),
        "by_model": {
            key: {
                "warm": backend.has_warm_key(key),
                "breaker": health.breaker.state(now),
                "failing": health.is_failing,
                "rests_s": seconds_left(health.backoff_until - now),
                "first_chunk_ms": milliseconds_of(health.typical_first_chunk),
                "learned_capacity": backend.learned_capacity(key),
                "prefill_tokens_per_s": backend.prefill_speed(key),
            }
            for key, health in backend.health.items()
        },
    }


def seconds_left(seconds: float) -> float:
    """Return a time that is left, for people; 0 if it is over."""
    return round(max(0.0, seconds), 1)


def milliseconds_of(seconds: float | None) -> float | None:
    """Return a duration in milliseconds, for people."""
    return None if seconds is None else round(seconds * 1000, 1)
