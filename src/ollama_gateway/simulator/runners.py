"""The loaded models, and the requests that wait for a load or for a slot in a runner.

A runner belongs to a file of weights, not to a name: names that share the file share the runner, it
is listed under the name that loaded it, and unloading any of them unloads it for all.

Times are seconds of `anyio.current_time()`, so residency ends under virtual time too. It is checked
on each request; nothing runs in the background. One model is loaded at a time, as in Ollama's
scheduler; loaded models are served meanwhile. All requests that need the model wait for the same
load; if the one that started it leaves, the load is lost and begins again for the next.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import AsyncIterator

import anyio
import attrs

from ollama_gateway.simulator.clock import now
from ollama_gateway.simulator.dialect import Refusal
from ollama_gateway.simulator.model import Model
from ollama_gateway.simulator.prefix_cache import PrefixCache, Slot

BUSY = "server busy, please try again.  maximum pending requests exceeded"


@attrs.frozen
class Limits:
    """The number of requests a server accepts at once.

    Args:
        parallel: requests that one runner serves at once, in order, as `OLLAMA_NUM_PARALLEL`.
        max_queue: requests that may wait for loads, beside the one being loaded, as
            `OLLAMA_MAX_QUEUE`; one more is refused.

    """

    parallel: float = math.inf
    max_queue: float = math.inf


UNLIMITED = Limits()


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
        keep: seconds that it stays after a request.
        until: when it will be unloaded; None before the first request has ended.
        places: limits the requests that it runs at once.
        cache: goes with the runner.

    """

    name: str
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
    _loaded: dict[str, Runner] = attrs.field(factory=dict)
    _loading: anyio.Lock = attrs.field(factory=anyio.Lock)
    _waiting: int = 0

    def resident(self) -> list[Runner]:
        """Return the loaded models, latest to go first."""
        self._expire()
        return sorted(self._loaded.values(), key=lambda runner: -runner.end)

    def load(self, weights: str, name: str, keep_alive: float | None) -> None:
        """Have a model loaded from now on, for so many seconds (negative: for ever)."""
        runner = self._loaded.setdefault(weights, self._runner(name))
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
    async def use(self, model: Model, keep_alive: float | None) -> AsyncIterator[Loaded]:
        """Hold a model loaded, and a slot in its runner.

        Raises:
            Refusal: 503, if too many wait for a load.

        """
        start = anyio.current_time()
        runner = await self._taken(model)
        loaded = Loaded(anyio.current_time() - start, runner.cache)
        self._keep(runner, keep_alive)
        try:
            async with runner.places:
                yield loaded
        finally:
            runner.users -= 1
            if not runner.users:
                runner.until = anyio.current_time() + runner.keep

    async def _taken(self, model: Model) -> Runner:
        """Return the runner of a model, load it if needed, and count its user."""
        self._expire()
        runner = self._loaded.get(model.weights) or await self._queued(model)
        runner.users += 1
        return runner

    async def _queued(self, model: Model) -> Runner:
        if self._waiting > self.limits.max_queue:
            raise Refusal(503, BUSY)
        self._waiting += 1
        try:
            async with self._loading:
                self._expire()
                if runner := self._loaded.get(model.weights):
                    return runner
                await anyio.sleep(model.load_time)
                return self._loaded.setdefault(model.weights, self._runner(model.name))
        finally:
            self._waiting -= 1

    def _runner(self, name: str) -> Runner:
        parallel = self.limits.parallel
        slots = [] if math.isinf(parallel) else [Slot() for _ in range(int(parallel))]
        places = anyio.CapacityLimiter(parallel)
        return Runner(name, self.keep_alive, None, places, PrefixCache(slots))

    @staticmethod
    def _keep(runner: Runner, seconds: float | None) -> None:
        """Set the time a runner stays, if a request sets it."""
        if seconds is not None:
            runner.keep = math.inf if seconds < 0 else seconds

    def _expire(self) -> None:
        """Unload runners whose time is over, unless they are in use."""
        for weights in [key for key, runner in self._loaded.items() if runner.is_over()]:
            del self._loaded[weights]
