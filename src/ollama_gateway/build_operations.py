"""From the parts of a gateway to the operations of its admin API."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing

from ollama_gateway.configuration import Parts
from ollama_gateway.control.limits import LimitsControl
from ollama_gateway.keys.key import APIKey
from ollama_gateway.keys.location import KeyStoreLocation
from ollama_gateway.server.admin_api.admin_tokens import TokenOperations
from ollama_gateway.server.admin_api.keys import KeyOperations
from ollama_gateway.server.admin_api.limits import LimitsOperations
from ollama_gateway.server.admin_api.operation import Operation
from ollama_gateway.storage.batcher import Runner


def operations_of(parts: Parts, place: KeyStoreLocation, runner: Runner) -> Sequence[Operation]:
    """Return all operations, those that every API has aside."""
    changes = parts.audit.changes
    return [
        *KeyOperations(place, parts.keys, changes, runner).all(),
        *LimitsOperations(_limits_control(parts, place, runner)).all(),
        *TokenOperations(place, changes, runner).all(),
    ]


def _limits_control(parts: Parts, place: KeyStoreLocation, runner: Runner) -> LimitsControl:
    def keys() -> Sequence[APIKey]:
        with closing(place.open()) as store:
            return store.list()

    return LimitsControl(parts.limits, keys, parts.audit.changes, runner)
