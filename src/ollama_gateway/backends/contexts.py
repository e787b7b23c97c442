"""The contexts with which a backend has its models loaded, as far as they can be known.

`/api/ps` tells them at each poll; between two polls the requests that run, and the last one that
was answered, know better.
"""

from __future__ import annotations

from ollama_gateway.backends.backend import Backend
from ollama_gateway.wire.names import ModelName


def note_context(backend: Backend, model: ModelName, tokens: int | None) -> None:
    """Note the context that an attempt asks for; None if it asks for none."""
    if tokens is not None and tokens > 0:
        backend.replica_of(model).context = min(tokens, backend.context(model) or tokens)


def answered_with(backend: Backend, model: ModelName, tokens: int | None) -> None:
    """Note the context of a request that was answered; None if it asked for none.

    If the request before it had another one, Ollama may have loaded the model anew, so it is polled
    at once; until it answers, the context that was asked for counts.
    """
    weights, replica = backend.weights_of(model), backend.replica_of(model)
    before, replica.last_context = replica.last_context, tokens
    if tokens == before or (tokens and tokens == backend.contexts.get(weights)):
        return
    backend.contexts.pop(weights, None)
    if tokens is not None and tokens > 0:
        backend.contexts[weights] = min(tokens, backend.context(model) or tokens)
    backend.load_changed.set()


def loaded_context(backend: Backend, model: ModelName) -> int | None:
    """Return the context in tokens that the model is, or will be, loaded with; or None."""
    weights = backend.weights_of(model)
    replica = backend.replicas.get(weights)
    asked = replica.context if replica else None
    return asked or (backend.contexts.get(weights) if weights in backend.warm else None)
