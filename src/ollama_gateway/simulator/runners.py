"""The loaded models, and the requests that wait for a load or for a slot in a runner.

A runner belongs to a file of weights, not to a name: names that share the file share the runner, it
is listed under the name that loaded it, and unloading any of them unloads it for all.

Times are seconds of `anyio.current_time()`, so residency ends under virtual time too. It is checked
on each request; nothing runs in the background. One model is loaded at a time, as in Ollama's
scheduler; loaded models are served meanwhile. All requests that need the model wait for the same
load; if the one that started it leaves, the load is lost and begins again for the next.

A request with other load options has its model loaded anew, once no request uses it. A model that
does not fit beside the loaded ones has those unloaded that are to go first, again unused ones only.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import AsyncIterator, Mapping

import anyio
import attrs

from ollama_gateway.simulator.clock import now
from ollama_gateway.simulator.dialect import Refusal
from ollama_gateway.simulator.model import Model
from ollama_gateway.simulator.prefix_cache import PrefixCache, Slot

BUSY = "server busy, please try again.  maximum pending requests exceeded"


@attrs.frozen
class Limits:
    """What a server can do at once, and its default.

    Args:
        parallel: requests that one runner serves at once, in order, as `OLLAMA_NUM_PARALLEL`.
        max_queue: requests that may wait for loads, beside the one being loaded, as
            `OLLAMA_MAX_QUEUE`; one more is refused.
        memory: bytes for loaded models.
        context: tokens of a model's context where no request names them, as
            `OLLAMA_CONTEXT_LENGTH`; at most the model's own.

    """

    parallel: float = math.inf
    max_queue: float = math.inf
    memory: float = math.inf
    context: float = math.inf


UNLIMITED = Limits()


LEAST_CONTEXT = 4
"""Tokens; Ollama takes a smaller context for this one (server/sched.go)."""

Options = Mapping[str, object]
"""The load options of a request, by name."""


@attrs.frozen
class Loaded:
    """A model that a request holds.

    Args:
        seconds: that its load took.
        cache: its runner's prefix cache.

    """

    seconds: float
    cache: PrefixCache


@attrs.define(eq=False)
class Runner:
    """A loaded model.

    Args:
        name: the name that loaded it.
        size: bytes that it takes.
        options: the load options that it has, with its context as `num_ctx`.
        keep: seconds that it stays after a request.
        until: when it will be unloaded; None before the first request has ended.
        places: limits the requests that it runs at once.
        cache: goes with the runner.

    """

    name: str
    size: int
    options: Options
    keep: float
    until: float | None
    places: anyio.CapacityLimiter
    cache: PrefixCache
    users: int = 0
    _listed: tuple[float | None, float, str] | None = None

    @property
    def end(self) -> float:
        """The time of its unloading."""
        return anyio.current_time() + self.keep if self.until is None else self.until

    def expires_at(self) -> str:
        """Write the time of its unloading, as `/api/ps` reports it: the same until it moves."""
        if self._listed is None or self._listed[:2] != (self.until, self.keep):
            text = now(self.end - anyio.current_time())
            self._listed = self.until, self.keep, text
        return self._listed[2]

    def is_over(self) -> bool:
        """Return whether its time is over and no request uses it."""
        return not self.users and self.end <= anyio.current_time()


@attrs.define(eq=False)
class Runners:
    """The runners of one server.

    Args:
        keep_alive: seconds a model stays loaded if no request says otherwise.

    """

    keep_alive: float
    limits: Limits = UNLIMITED
    loads: int = 0
    _loaded: dict[str, Runner] = attrs.field(factory=dict)
    _loading: anyio.Lock = attrs.field(factory=anyio.Lock)
    _waiting: int = 0
    _left: anyio.Event = attrs.field(factory=anyio.Event)
    """Set when a request leaves its runner; a new event each time."""

    def resident(self) -> list[Runner]:
        """Return the loaded models, latest to go first."""
        self._expire()
        return sorted(self._loaded.values(), key=lambda runner: -runner.end)

    def load(self, model: Model, keep_alive: float | None, options: Options) -> None:
        """Have a model loaded from now on, for so many seconds (negative: for ever)."""
        runner = self._loaded.setdefault(model.weights, self._runner(model, options))
        self._keep(runner, keep_alive)
        runner.until = anyio.current_time() + runner.keep

    def unload(self, weights: str) -> None:
        """Unload a model as soon as no request uses it."""
        if runner := self._loaded.get(weights):
            runner.keep = 0
            runner.until = anyio.current_time()
        self._expire()

    def forget(self, name: str) -> None:
        """Drop the runner loaded under a name."""
        for weights in [key for key, runner in self._loaded.items() if runner.name == name]:
            del self._loaded[weights]

    def clear(self) -> None:
        """Unload everything at once, as a restart does."""
        self._loaded.clear()

    @contextlib.asynccontextmanager
    async def use(
        self, model: Model, keep_alive: float | None, options: Options
    ) -> AsyncIterator[Loaded]:
        """Hold a model loaded, and a slot in its runner.

        Raises:
            Refusal: 503, if too many wait for a load.

        """
        start = anyio.current_time()
        runner = await self._taken(model, options)
        loaded = Loaded(anyio.current_time() - start, runner.cache)
        self._keep(runner, keep_alive)
        try:
            async with runner.places:
                yield loaded
        finally:
            runner.users -= 1
            if not runner.users:
                runner.until = anyio.current_time() + runner.keep
            self._left.set()
            self._left = anyio.Event()

    async def _taken(self, model: Model, options: Options) -> Runner:
        """Return the runner of a model, load it if needed, and count its user."""
        runner = self._fitting(model, options) or await self._queued(model, options)
        runner.users += 1
        return runner

    def _fitting(self, model: Model, options: Options) -> Runner | None:
        """Return the runner that has the model loaded so, if any."""
        self._expire()
        runner = self._loaded.get(model.weights)
        return runner if runner and runner.options == self._options(model, options) else None

    async def _queued(self, model: Model, options: Options) -> Runner:
        if self._waiting > self.limits.max_queue:
            raise Refusal(503, BUSY)
        self._waiting += 1
        try:
            async with self._loading:
                if runner := self._fitting(model, options):
                    return runner
                await self._make_room(model)
                await anyio.sleep(model.load_time)
                self.loads += 1
                return self._loaded.setdefault(model.weights, self._runner(model, options))
        finally:
            self._waiting -= 1

    async def _make_room(self, model: Model) -> None:
        """Unload the model's own runner, and others until it fits, as soon as they are unused."""
        while (runner := self._in_the_way(model)) is not None:
            if runner.users:
                await self._left.wait()
            else:
                self._loaded = {w: one for w, one in self._loaded.items() if one is not runner}
            self._expire()

    def _in_the_way(self, model: Model) -> Runner | None:
        """Return the runner that must go first; None if the model fits."""
        if model.weights in self._loaded:
            return self._loaded[model.weights]
        if sum(one.size for one in self._loaded.values()) + model.size <= self.limits.memory:
            return None
        order = sorted(self._loaded.values(), key=lambda one: (bool(one.users), one.end))
        return order[0] if order else None

    def _runner(self, model: Model, options: Options) -> Runner:
        parallel = self.limits.parallel
        slots = [] if math.isinf(parallel) else [Slot() for _ in range(int(parallel))]
        places, cache = anyio.CapacityLimiter(parallel), PrefixCache(slots)
        wanted = self._options(model, options)
        return Runner(model.name, model.size, wanted, self.keep_alive, None, places, cache)

    def _options(self, model: Model, options: Options) -> Options:
        """Return the options that a request gets: its own, within what the model can have."""
        context = options.get("num_ctx")
        tokens = context if isinstance(context, int | float) else self.limits.context
        effective = int(min(max(tokens, LEAST_CONTEXT), model.context_length))
        return {**options, "num_ctx": effective}

    @staticmethod
    def _keep(runner: Runner, seconds: float | None) -> None:
        """Set the time a runner stays, if a request sets it."""
        if seconds is not None:
            runner.keep = math.inf if seconds < 0 else seconds

    def _expire(self) -> None:
        """Unload runners whose time is over, unless they are in use."""
        for weights in [key for key, runner in self._loaded.items() if runner.is_over()]:
            del self._loaded[weights]
