"""From the parts of a gateway to the operations of its admin API."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial

import attrs

from ollama_gateway.backends.catalog import names
from ollama_gateway.backends.pausing import PauseFile, Pauses
from ollama_gateway.configuration import Configuration, Parts
from ollama_gateway.control.models import ModelView
from ollama_gateway.control.pausing import PauseControl
from ollama_gateway.control.status import GatewayStatus
from ollama_gateway.control.unknown_filters import KnownNames
from ollama_gateway.keys.location import KeyStoreLocation
from ollama_gateway.ledger.read.audit_log import AuditPlace
from ollama_gateway.server.admin_api.audit import AuditOperations
from ollama_gateway.server.admin_api.backends import BackendOperations
from ollama_gateway.server.admin_api.config import ConfigOperations
from ollama_gateway.server.admin_api.keys import KeyOperations
from ollama_gateway.server.admin_api.models import ModelOperations
from ollama_gateway.server.admin_api.operation import Operation
from ollama_gateway.server.admin_api.status import StatusOperations
from ollama_gateway.server.reload_handlers import Reloader
from ollama_gateway.storage.batcher import Runner


@attrs.frozen
class OperationParts:
    """What operations are made of."""

    parts: Parts
    records: AuditPlace
    in_force: Callable[[], Configuration]
    state: GatewayStatus
    pauses: Pauses
    keys: KeyStoreLocation
    reloader: Callable[[], Reloader | None]
    """Returns what reloads the settings; None where a parent does."""
    runner: Runner

    def all(self) -> Sequence[Operation]:
        """Return the operations."""
        return [
            *StatusOperations(self.state).all(),
            *self._keys().all(),
            *self._backends().all(),
            *self._models().all(),
            *self._audit().all(),
            *ConfigOperations(self.reloader, self.parts.audit.changes, self.runner).all(),
        ]

    def _keys(self) -> KeyOperations:
        return KeyOperations(self.keys, self.parts.keys, self.parts.audit.changes, self.runner)

    def _backends(self) -> BackendOperations:
        pausing = PauseControl(PauseFile(self.records.directory), self.parts.audit.changes)
        return BackendOperations(self.parts.backends, pausing, self.pauses.changed, self.runner)

    def _models(self) -> ModelOperations:
        return ModelOperations(
            view=self._view,
            policies=lambda: self.in_force().exchange.policies,
            discovery=self.parts.discovery,
            recorder=self.parts.audit.changes,
            runner=self.runner,
            load_seconds=lambda: self.in_force().settings.race.first_chunk_timeout,
            idle_seconds=lambda: self.in_force().settings.race.idle_timeout,
        )

    def _view(self) -> ModelView:
        settings = self.in_force().settings
        return ModelView(self.parts.backends, settings.aliases, settings.models)

    def _audit(self) -> AuditOperations:
        known: KnownNames = {
            "key": partial(_names_of_keys, self.keys),
            "model": self._names_of_models,
            "backend": lambda: [backend.name for backend in self.parts.backends.all],
        }
        return AuditOperations(self.records, known, self.runner)

    def _names_of_models(self) -> list[str]:
        aliases = [alias.name for alias in self.in_force().settings.aliases.exact.values()]
        return [*names(self.parts.backends.catalog.models.values()), *aliases]


def _names_of_keys(location: KeyStoreLocation) -> list[str]:
    """Return all texts by which a filter takes a key; blocks."""
    with closing(location.open()) as store:
        return [text for key in store.list() for text in (key.name, key.id)]
