"""Explain which backends would get a request now, in which order, and why the others would not.

The explanation comes from the evaluation that serves requests (`backends/selection.py`), so it says
what would happen.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from ollama_gateway.backends.backend import Backend
from ollama_gateway.backends.backends import Backends
from ollama_gateway.backends.breaker import Breaker
from ollama_gateway.backends.evaluation import Evaluation, RouteRequest, evaluate, in_order
from ollama_gateway.backends.placement import Choice, choose
from ollama_gateway.control.backends import milliseconds_of, seconds_left
from ollama_gateway.wire.identity import HEADERS, conversation_of
from ollama_gateway.wire.names import ModelName

Facts = dict[str, Any]


def explain(route: RouteRequest, backends: Backends, now: float) -> dict[str, list[Facts]]:
    """Return the candidates for a route request, best first, and the backends passed over.

    Each entry names its `backend`, its state, and `why` in words.
    """
    choice = choose(route, backends, now)
    ordered = in_order(evaluate(route, backends, now), choice.first, choice.last)
    admitted = [j for j in ordered if j.is_admitted]
    awaited = choice.first if now < choice.until else None
    chosen = sorted(admitted, key=lambda j: not (j.has_room or j.backend is awaited)) or ordered[:1]
    names = {evaluation.backend.name for evaluation in chosen}
    return {
        "candidates": [
            {
                "order": order,
                **_shown(evaluation.backend, route, now),
                "why": ", ".join([*_merits(evaluation, now), *_reads(evaluation, choice, now)]),
            }
            for order, evaluation in enumerate(chosen, 1)
        ],
        "passed_over": [
            {**_shown(backend, route, now), "why": _obstacle(backend, route, now)}
            for backend in backends.all
            if backend.name not in names
        ],
    }


def _reads(evaluation: Evaluation, choice: Choice, now: float) -> Iterator[str]:
    """Say what a conversation has to do with a candidate."""
    backend, own = evaluation.backend, choice.own
    if own is not None and own.backend is backend:
        yield f"has the conversation, {choice.cached:,} tokens cached"
        if backend is choice.first and not evaluation.has_room and now < choice.until:
            yield f"waits for it at most {seconds_left(choice.until - now)} s"
        elif choice.first is not backend and choice.last is not backend:
            yield "its line costs more than reading the prompt elsewhere"
    elif own is None and backend is choice.first:
        yield "first for this conversation"


def explain_all(
    models: Sequence[ModelName],
    key_id: str,
    backends: Backends,
    now: float,
    session: Sequence[str] | None = None,
) -> dict[str, list[Facts]]:
    """Return what `explain` does, for models of which each is asked after the one before.

    `session` names a conversation of the key.
    """
    headers = [(HEADERS[0], name.encode("utf-8", "surrogatepass")) for name in session or ()]
    conversation = conversation_of(key_id, models[0].key, headers, {})
    explained = []
    for model in models:
        route = RouteRequest(model, key_id, conversation=conversation)
        explained.append((model.short, explain(route, backends, now)))
    found = {
        part: [{"model": model, **fact} for model, parts in explained for fact in parts[part]]
        for part in ("candidates", "passed_over")
    }
    for order, candidate in enumerate(found["candidates"], 1):
        candidate["order"] = order
    return found


def _shown(backend: Backend, route: RouteRequest, now: float) -> Facts:
    health, replica = backend.health_of(route.model), backend.replica_of(route.model)
    is_warm = backend.has_warm(route.model)
    return {
        "backend": backend.name,
        "priority": backend.priority,
        "up": backend.is_up,
        "paused": backend.is_paused,
        "warm": is_warm,
        "loading": not is_warm and replica.loading_since is not None,
        "in_flight": backend.in_flight,
        "slots": backend.slots,
        "running": replica.running,
        "learned_capacity": replica.capacity.value,
        "breaker": _worse(backend.breaker, health.breaker).state(now),
        "first_chunk_ms": milliseconds_of(health.typical_first_chunk),
    }


def _merits(evaluation: Evaluation, now: float) -> Iterator[str]:
    """Say why a candidate has its place in the order."""
    backend = evaluation.backend
    if not evaluation.is_admitted:
        yield f"last resort: {_obstacle_of_breakers(evaluation, now)}"
    yield f"priority {backend.priority}"
    yield "warm" if evaluation.is_warm else "loading" if evaluation.is_loading else "cold"
    if backend.slots:
        yield f"{backend.in_flight} of {backend.slots} slots busy"
    else:
        replica = evaluation.replica
        yield f"{replica.running} of {replica.capacity.value} (learned) busy"
        if evaluation.may_evict:
            yield "a load may evict a model in use"
    if evaluation.is_backing_off:
        rest = seconds_left(evaluation.health.backoff_until - now)
        yield f"backing off for {rest} s: it was full"
    elif not evaluation.has_room:
        yield "full"
    if not evaluation.is_closed and evaluation.is_admitted:
        yield "the next request is the probe of its breaker"
    if not evaluation.is_loaded_so:
        yield "loaded with other options"


def _obstacle(backend: Backend, route: RouteRequest, now: float) -> str:
    """Say why a backend is passed over."""
    if not backend.is_up:
        return f"down: {backend.error or 'not polled yet'}"
    if not backend.hosts(route.model):
        return "does not list the model"
    if backend.is_paused:
        return "paused"
    evaluation = Evaluation.of(route, backend, 0, now)
    return _obstacle_of_breakers(evaluation, now)


def _obstacle_of_breakers(evaluation: Evaluation, now: float) -> str:
    backend = evaluation.backend
    breaker = _worse(backend.breaker, evaluation.health.breaker)
    if breaker.state(now) == "half-open":
        return f"breaker half-open, its probe is running ({breaker.reason})"
    return f"breaker open for {seconds_left((breaker.until or now) - now)} s ({breaker.reason})"


def _worse(one: Breaker, other: Breaker) -> Breaker:
    return max(one, other, key=lambda breaker: breaker.until or 0)
