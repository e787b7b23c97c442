"""The state of one server: its models, which of them are loaded, and the work done."""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Callable

import attrs

from ollama_gateway.simulator.clock import today
from ollama_gateway.simulator.model import Model
from ollama_gateway.simulator.names import Name, parse
from ollama_gateway.simulator.runners import Loaded, Runners

KEEP_ALIVE = 300.0


@attrs.define(eq=False)
class Library:
    """Models, their residency and their work.

    Args:
        version: the answer of `/api/version`.
        runners: the loaded models.
        wall_clock: dates models that are pulled, copied or created.
        prompt_tokens: of all prompts that a model has begun with.
        cached_tokens: how many of them a prefix cache held.
        completion_tokens: generated so far.
        blobs: the uploads: digest to size.

    """

    version: str
    runners: Runners
    wall_clock: Callable[[], dt.datetime] = today
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    blobs: dict[str, int] = attrs.field(factory=dict)
    _registry: dict[tuple[str, ...], Model] = attrs.field(factory=dict)
    _models: dict[str, Model] = attrs.field(factory=dict)
    _spellings: dict[tuple[str, ...], str] = attrs.field(factory=dict)
    """The listed name, by the key that all its spellings share."""
    _ghosts: set[str] = attrs.field(factory=set)

    def add(self, model: Model) -> None:
        """Host a model; it replaces one of the same name, and the old spelling stays."""
        name = self._spelling(model.name)
        self._ghosts.discard(name)
        self._models[name] = attrs.evolve(model, name=name)
        self._spellings[parse(name).folded] = name

    def remove(self, name: str) -> None:
        """Stop hosting a model; ignore unknown names."""
        short = self._spelling(name)
        self.runners.forget(short)
        self._models.pop(short, None)
        self._spellings.pop(parse(name).folded, None)

    def publish(self, model: Model) -> None:
        """Put a model into the registry, from where it can be pulled."""
        self._registry[parse(model.name).folded] = model

    def published(self, name: Name) -> Model | None:
        """Return the model of that name in the registry."""
        return self._registry.get(name.folded)

    def has_layers(self, model: Model) -> bool:
        """Return whether a model's files are here, even under another name."""
        return any(model.weights == hosted.weights for hosted in self._models.values())

    def ghost(self, name: str) -> None:
        """List a model whose every use is a 404."""
        short = self._spelling(name)
        self._models.setdefault(short, Model(short))
        self._spellings[parse(short).folded] = short
        self.runners.forget(short)
        self._ghosts.add(short)

    def listed(self) -> list[Model]:
        """Return all models, newest first."""
        return sorted(self._models.values(), key=lambda model: -int(model.modified_at.timestamp()))

    def find(self, name: Name, *, exact: bool = False) -> Model | None:
        """Return the hosted model of that name; `exact` compares the case too."""
        for model in self._models.values():
            own = parse(model.name)
            same = own == name if exact else own.folded == name.folded
            if same and model.name not in self._ghosts:
                return model
        return None

    def load(self, name: str, keep_alive: float | None = None) -> None:
        """Mark a model as loaded from now on; negative `keep_alive` seconds mean for ever."""
        short = self._spelling(name)
        self.runners.load(self._weights(short), short, keep_alive)

    def unload(self, name: str) -> None:
        """Unload a model, and forget the residency that requests asked for."""
        self.runners.unload(self._weights(self._spelling(name)))

    def resident(self) -> list[tuple[Model, str]]:
        """Return the loaded models with the times of their unloading, latest to go first."""
        return [
            (self._models[runner.name], runner.expires_at())
            for runner in self.runners.resident()
            if runner.name in self._models
        ]

    def use(
        self, model: Model, keep_alive: float | None
    ) -> contextlib.AbstractAsyncContextManager[Loaded]:
        """Hold a model loaded while the block lasts."""
        return self.runners.use(model, keep_alive)

    def _weights(self, short: str) -> str:
        return self._models[short].weights if short in self._models else Model(short).weights

    def _spelling(self, name: str) -> str:
        """Return the listed spelling of a name, or its canonical one if it is not listed."""
        wanted = parse(name)
        return self._spellings.get(wanted.folded, wanted.short)
