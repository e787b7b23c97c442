"""What one server has: its models, which of them are loaded until when, what they have served.

Times are seconds of `anyio.current_time()`, so that residency runs out under virtual time too. It
is looked at when somebody asks; nothing runs in the background. A load is waited for by all who
need the model, once; when the one who started it leaves, the load is lost, as in Ollama.
"""

from __future__ import annotations

import collections
import contextlib
import datetime as dt
import math
from collections.abc import AsyncIterator, Callable

import anyio
import attrs

from ollama_gateway.simulator.clock import today
from ollama_gateway.simulator.model import Model
from ollama_gateway.simulator.names import Name, parse

KEEP_ALIVE = 300.0


@attrs.define(eq=False)
class Library:
    """Models, their residency and their work.

    Args:
        version: what `/api/version` says.
        keep_alive: seconds a model stays loaded where no request says otherwise.
        wall_clock: dates what is pulled, copied or created.
        loaded: canonical short name to the time when it will be unloaded (inf: never).
        prompt_tokens: of all prompts that a model has begun with.
        completion_tokens: generated so far.
        blobs: what was uploaded: digest to size.

    """

    version: str
    keep_alive: float = KEEP_ALIVE
    wall_clock: Callable[[], dt.datetime] = today
    loaded: dict[str, float] = attrs.field(factory=dict)
    prompt_tokens: int = 0
    completion_tokens: int = 0
    blobs: dict[str, int] = attrs.field(factory=dict)
    _registry: dict[tuple[str, ...], Model] = attrs.field(factory=dict)
    _models: dict[str, Model] = attrs.field(factory=dict)
    _ghosts: set[str] = attrs.field(factory=set)
    _keeps: dict[str, float] = attrs.field(factory=dict)
    _loads: dict[str, anyio.Lock] = attrs.field(factory=dict)
    _users: collections.Counter[str] = attrs.field(factory=collections.Counter)

    def add(self, model: Model) -> None:
        """Host a model; one of the same name is replaced, and its spelling is kept."""
        name = self._spelling(model.name)
        self._ghosts.discard(name)
        self._models[name] = attrs.evolve(model, name=name)

    def remove(self, name: str) -> None:
        """Host a model no more; unknown names are none of its business."""
        short = self._spelling(name)
        self.loaded.pop(short, None)
        self._models.pop(short, None)

    def publish(self, model: Model) -> None:
        """Have a model in the registry, from where it can be pulled."""
        self._registry[parse(model.name).folded] = model

    def published(self, name: Name) -> Model | None:
        """Give the model of that name in the registry."""
        return self._registry.get(name.folded)

    def has_layers(self, model: Model) -> bool:
        """Tell whether what a model is made of is here, be it under another name."""
        return any(model.digest == hosted.digest for hosted in self._models.values())

    def ghost(self, name: str) -> None:
        """List a model that every use of will miss."""
        short = self._spelling(name)
        self._models.setdefault(short, Model(short))
        self.loaded.pop(short, None)
        self._ghosts.add(short)

    def listed(self) -> list[Model]:
        """Give all models, newest first."""
        return sorted(self._models.values(), key=lambda model: -int(model.modified_at.timestamp()))

    def find(self, name: Name, *, exact: bool = False) -> Model | None:
        """Give the hosted model of that name; `exact` looks at the case too."""
        for model in self._models.values():
            own = parse(model.name)
            same = own == name if exact else own.folded == name.folded
            if same and model.name not in self._ghosts:
                return model
        return None

    def load(self, name: str, keep_alive: float | None = None) -> None:
        """Mark a model as loaded from now on; negative `keep_alive` seconds mean for ever."""
        short = self._spelling(name)
        self.loaded[short] = anyio.current_time() + self._keep(short, keep_alive)

    def unload(self, name: str) -> None:
        """Unload a model at once; what a request said of its residency is forgotten."""
        short = self._spelling(name)
        self.loaded.pop(short, None)
        self._keeps.pop(short, None)

    def resident(self) -> list[tuple[Model, float]]:
        """Give what is loaded with the seconds left, latest to go first."""
        now = anyio.current_time()
        self.expire()
        rows = [
            (self._models[name], until - now)
            for name, until in self.loaded.items()
            if name in self._models
        ]
        return sorted(rows, key=lambda row: -row[1])

    @contextlib.asynccontextmanager
    async def use(self, model: Model, keep_alive: float | None) -> AsyncIterator[float]:
        """Hold a model loaded while the block lasts; gives the seconds its load took."""
        start = anyio.current_time()
        async with self._loads.setdefault(model.name, anyio.Lock()):
            self.expire()
            if model.name not in self.loaded:
                await anyio.sleep(model.load_time)
            self.load(model.name, keep_alive)
        self._users[model.name] += 1
        try:
            yield anyio.current_time() - start
        finally:
            self._users[model.name] -= 1
            if model.name in self.loaded:
                self.load(model.name)

    def _keep(self, short: str, seconds: float | None) -> float:
        """Give the residency of a model, after a request that may have set it."""
        if seconds is not None:
            self._keeps[short] = math.inf if seconds < 0 else seconds
        return self._keeps.get(short, self.keep_alive)

    def expire(self) -> None:
        """Unload what has had its time, unless it is in use."""
        now = anyio.current_time()
        for name in [name for name, until in self.loaded.items() if until <= now]:
            if not self._users[name]:
                del self.loaded[name]
                self._keeps.pop(name, None)

    def _spelling(self, name: str) -> str:
        """Give the listed spelling of a name, or its canonical one where it is not listed."""
        wanted = parse(name)
        for short in self._models:
            if parse(short).folded == wanted.folded:
                return short
        return wanted.short
