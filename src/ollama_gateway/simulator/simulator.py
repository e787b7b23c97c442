"""A server that behaves as Ollama does and needs no GPU: START HERE.

A connection (`connection.py`) reads requests and passes each on as an `Exchange`; this file records
it, finds its route and its script, and lets the route's handler answer. The handlers know only the
`Library` (which models, which of them loaded) and the exchange. Every deliberate failure is a
`Script`; nothing else in here fails.

Nothing of the gateway is imported, not even its reading of model names: the two sides must not
share a misreading.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import anyio
import attrs
from anyio.abc import ByteStream, SocketAttribute, TaskStatus

from ollama_gateway.simulator.clock import today
from ollama_gateway.simulator.connection import Connection
from ollama_gateway.simulator.dialect import NATIVE, Refusal
from ollama_gateway.simulator.exchange import Exchange, Seen
from ollama_gateway.simulator.faults import befall
from ollama_gateway.simulator.figures import PATH, Figures
from ollama_gateway.simulator.gojson import loads
from ollama_gateway.simulator.gotypes import BadBody
from ollama_gateway.simulator.library import KEEP_ALIVE, Library
from ollama_gateway.simulator.model import Model
from ollama_gateway.simulator.names import InvalidName, parse
from ollama_gateway.simulator.recovery import recovering
from ollama_gateway.simulator.routes import Route, reach
from ollama_gateway.simulator.runners import UNLIMITED, Limits, Runners
from ollama_gateway.simulator.script import NOTHING, Script, Scripts

CLOSING = 1.0
"""Seconds, at most, for a close that should be immediate."""


@attrs.define(eq=False, init=False)
class Simulator:
    """One simulated Ollama.

    Args:
        models: the hosted models.
        version: the version it reports.
        keep_alive: seconds a model stays loaded by default.
        is_recording: keep the requests seen; a server that runs for days does not.
        registry: models that can be pulled, beside the hosted ones.
        wall_clock: dates models that are pulled, copied or created.
        shows_figures: answer `GET /simulator/figures`, which no real Ollama has.
        limits: how many requests it accepts at once.

    Attributes:
        seen: the requests so far, oldest first, recorded as soon as their head was read.
        most_in_flight: the most inference requests that were ever served at once.

    """

    seen: list[Seen]
    most_in_flight: int
    _is_recording: bool
    _shows_figures: bool
    _requests: int
    _exchanges: set[Exchange]
    _library: Library
    _scripts: Scripts
    _is_down: bool
    _scopes: set[anyio.CancelScope]

    def __init__(
        self,
        models: Iterable[Model] = (),
        *,
        registry: Iterable[Model] = (),
        version: str = "0.33.0",
        keep_alive: float = KEEP_ALIVE,
        wall_clock: Callable[[], dt.datetime] = today,
        is_recording: bool = True,
        shows_figures: bool = False,
        limits: Limits = UNLIMITED,
    ) -> None:
        self.seen = []
        self.most_in_flight = self._requests = 0
        self._is_recording = is_recording
        self._shows_figures = shows_figures
        self._exchanges = set()
        self._library = Library(version, Runners(keep_alive, limits), wall_clock)
        self._scripts = Scripts()
        self._is_down = False
        self._scopes = set()
        for model in models:
            self._library.add(model)
            self._library.publish(model)
        for model in registry:
            self._library.publish(model)

    @property
    def in_flight(self) -> int:
        """Inference requests being served at this moment."""
        return sum(exchange.is_in_flight for exchange in self._exchanges)

    @property
    def figures(self) -> Figures:
        """The work done so far."""
        return Figures(
            self.in_flight,
            self.most_in_flight,
            self._requests,
            self._library.prompt_tokens,
            self._library.completion_tokens,
            self._library.cached_tokens,
        )

    @property
    def loaded(self) -> dict[str, float]:
        """Canonical short name to the `anyio.current_time()` of its unloading."""
        return {runner.name: runner.end for runner in self._library.runners.resident()}

    @property
    def down(self) -> bool:
        """Whether the server is away; setting it is `go_down` and `come_back`."""
        return self._is_down

    @down.setter
    def down(self, value: bool) -> None:
        if value:
            self.go_down()
        else:
            self.come_back()

    def go_down(self) -> None:
        """Close every connection at once, and each new one as soon as it is made."""
        self._is_down = True
        for scope in self._scopes:
            scope.cancel()

    def come_back(self) -> None:
        """Serve again; nothing is loaded, as after a restart."""
        self._is_down = False
        self._library.runners.clear()

    def add_model(self, model: Model) -> None:
        """Host one more model."""
        self._library.add(model)

    def publish(self, model: Model) -> None:
        """Put one more model into the registry."""
        self._library.publish(model)

    def remove_model(self, name: str) -> None:
        """Stop hosting a model: it is neither listed nor served."""
        self._library.remove(name)

    def ghost(self, name: str) -> None:
        """List a model whose every use is a 404."""
        self._library.ghost(name)

    def load(self, name: str, keep_alive: float | None = None) -> None:
        """Have a model loaded from now on, for `keep_alive` seconds (negative: for ever)."""
        self._library.load(name, keep_alive)

    def unload(self, name: str) -> None:
        """Have a model unloaded."""
        self._library.unload(name)

    def script(
        self,
        script: Script,
        *,
        model: str | None = None,
        path: str | None = None,
        times: int | None = 1,
    ) -> None:
        """Apply a script to the next requests that match.

        Args:
            script: the faults.
            model: only requests for this model, in any spelling.
            path: only this path; without it, only inference requests.
            times: how often; None means from now on.

        """
        folded = parse(model).folded if model is not None else None
        self._scripts.add(script, folded, path, times)

    def clear_scripts(self) -> None:
        """Forget all queued scripts."""
        self._scripts.clear()

    async def serve_stream(self, stream: ByteStream, *, recovers: bool = False) -> None:
        """Serve one connection until it is closed, and close it.

        With `recovers` a failure of the simulator itself is a 500, as in Ollama's server; without
        it the failure is raised, so a test notices it.
        """
        answer = recovering(self._answer) if recovers else self._answer
        with anyio.CancelScope() as scope:
            try:
                if not self._is_down:
                    self._scopes.add(scope)
                    await Connection(stream, self._note, answer).serve()
            finally:
                self._scopes.discard(scope)
                with anyio.move_on_after(
                    CLOSING, shield=True
                ):  # a cancellation would hide a failure
                    await anyio.aclose_forcefully(stream)

    async def serve(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        recovers: bool = False,
        task_status: TaskStatus[int] = anyio.TASK_STATUS_IGNORED,
    ) -> None:
        """Listen on TCP until cancelled; `started` reports the port.

        Raises:
            OSError: the address is not available.

        """
        listener = await anyio.create_tcp_listener(local_host=host, local_port=port)
        async with listener:
            bound: int = listener.extra(SocketAttribute.local_port)  # noqa: S610 - no Django
            task_status.started(bound)
            await listener.serve(partial(self.serve_stream, recovers=recovers))

    def _note(self, seen: Seen) -> None:
        if self._is_recording:
            self.seen.append(seen)

    async def _answer(self, exchange: Exchange) -> None:
        if self._shows_figures and (exchange.method, exchange.path) == ("GET", PATH):
            await NATIVE.answer(exchange, attrs.asdict(self.figures))
            return
        route = await reach(exchange)
        if route is None:
            return
        exchange.script = self._script_for(exchange, route)
        if not route.is_inference:
            await self._handle(exchange, route)
            return
        self._count(exchange)
        try:
            await self._handle(exchange, route)
        finally:
            self._exchanges.remove(exchange)

    def _count(self, exchange: Exchange) -> None:
        """Count a new request; check every connection only if it may raise the maximum."""
        self._requests += 1
        self._exchanges.add(exchange)
        if len(self._exchanges) > self.most_in_flight:
            self.most_in_flight = max(self.most_in_flight, self.in_flight)

    def _script_for(self, exchange: Exchange, route: Route) -> Script:
        if not self._scripts:
            return NOTHING
        model = _model_in(_peek(exchange.seen.body))
        return self._scripts.take(exchange.path, model, inference=route.is_inference)

    async def _handle(self, exchange: Exchange, route: Route) -> None:
        """Let the script or the handler answer; a refusal becomes bytes here."""
        try:
            await befall(exchange)
            await route.handler(self._library, exchange)
        except Refusal as refusal:
            streamed = route.can_stream and _is_stream(exchange, route)
            await route.dialect.refuse(exchange, refusal, streamed=streamed)


def _is_stream(exchange: Exchange, route: Route) -> bool:
    wanted = _peek(exchange.seen.body).get("stream")
    return route.dialect.streams if wanted is None else wanted is True


def _peek(body: bytes) -> dict[str, Any]:
    """Read the properties that a script can match; bad bodies match nothing."""
    try:
        value = loads(body)
    except BadBody:
        return {}
    return value if isinstance(value, dict) else {}


def _model_in(fields: dict[str, Any]) -> tuple[str, ...] | None:
    text = fields.get("model") or fields.get("name")
    if not isinstance(text, str):
        return None
    try:
        return parse(text).folded
    except InvalidName:
        return None
