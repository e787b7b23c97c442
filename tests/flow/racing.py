"""Races in virtual time, given as `{backend: (seconds, outcome)}`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Final, Literal

import anyio
import attrs
import httpx
import trio

from ollama_gateway.backends.backend import Backend
from ollama_gateway.backends.backends import Backends
from ollama_gateway.backends.catalog import Listing
from ollama_gateway.backends.evaluation import RouteRequest
from ollama_gateway.backends.health import BackendFault
from ollama_gateway.backends.occupancy import Slot
from ollama_gateway.backends.selection import Candidates
from ollama_gateway.backends.transport import BackendAnswer
from ollama_gateway.errors import GatewayError
from ollama_gateway.flow.admission import ModelCall
from ollama_gateway.flow.answers import AnswerBudget, AnswerMemory
from ollama_gateway.flow.attempt import GoodAnswer
from ollama_gateway.flow.endpoints import INFERENCE
from ollama_gateway.flow.failures import AttemptFailed
from ollama_gateway.flow.hedging import Hedging, RetryBudget
from ollama_gateway.flow.race import Race, Rules
from ollama_gateway.metrics import Metrics
from ollama_gateway.reasons import AnyReason, Reason, reason_of
from ollama_gateway.wire.frames import WholeBody
from ollama_gateway.wire.load_options import LoadOptions
from ollama_gateway.wire.names import ModelName
from tests.backends.asking import UNUSED
from tests.backends.test_catalog import entry

M: Final = ModelName.parse("m:1")
CALL: Final = ModelCall(INFERENCE[0], M, "m:1", streams=True, headers=[], body=b"")
GOOD: Final = "good"
REACHED: Final = {BackendFault.ERROR, BackendFault.FULL, BackendFault.LACKS_MODEL}
"""Failures of a backend that has begun to answer."""
Outcome = str | Exception
RacePlan = Mapping[str, tuple[float, Outcome]]


def failed(
    reason: AnyReason = Reason.CONNECTION_BROKEN,
    fault: BackendFault = BackendFault.BROKEN,
    status: int | None = None,
    retry_after: float | None = None,
) -> AttemptFailed:
    """Return the failure of an attempt."""
    return AttemptFailed(reason, fault, status=status, retry_after=retry_after)


def error(status: int = 500) -> AttemptFailed:
    """Return the failure of a backend that answers with an error."""
    return failed(reason_of(status), BackendFault.ERROR, status)


def full(retry_after: float | None = None, status: int = 503) -> AttemptFailed:
    """Return the failure of a backend that says it is full."""
    return failed(reason_of(status), BackendFault.FULL, status, retry_after)


def unreachable() -> AttemptFailed:
    """Return the failure of a backend that cannot be reached."""
    return failed(Reason.CONNECT_FAILED, BackendFault.UNREACHABLE)


@attrs.define
class Outcomes:
    """The events of one race, in seconds after its start."""

    won: str | None = None
    error: GatewayError | None = None
    started: dict[str, float] = attrs.field(factory=dict)
    closed: dict[str, float] = attrs.field(factory=dict)
    """When losers ended their attempts or closed their answers."""
    ended: float = 0


class Track:
    """Backends that all host one model, in the order given, for races between them."""

    def __init__(
        self,
        *names: str,
        warm: str | None = None,
        slots: int = 0,
        priorities: Mapping[str, int] | None = None,
        after: float | Literal["auto", "off"] = "off",
        ratio: float = 1.0,
        attempts: int = 3,
    ) -> None:
        given = priorities or {}
        self.metrics = Metrics()
        self.backends = Backends.of(
            [
                Backend(
                    name,
                    httpx.URL("http://h"),
                    UNUSED,
                    priority=given.get(name, place),
                    slots=slots,
                )
                for place, name in enumerate(names, 1)
            ],
            self.metrics,
        )
        self.by_name = {backend.name: backend for backend in self.backends.all}
        self.poll(warm=names if warm is None else warm)
        self.rules = Rules(attempts, Hedging(after, ratio), RetryBudget(), self.metrics)

    def poll(self, *, warm: tuple[str, ...] | str = (), now: float = 0) -> None:
        """Poll all backends: each lists the model, and these have it loaded."""
        models = {M.key: entry("m:1")}
        for name, backend in self.by_name.items():
            listing = Listing("0.33.0", models, models if name in warm else {})
            self.backends.polled(backend, listing, now)

    async def run(
        self,
        plan: RacePlan,
        *,
        holds: float = 0,
        timeout: float = 1000,
        queue_timeout: float = 100,
        is_streamed: bool = True,
        is_slotless: bool = False,
        key: str = "k",
        load_options: LoadOptions = (),
    ) -> Outcomes:
        """Race once; the winner's answer takes `holds` seconds."""
        outcomes, began = Outcomes(), trio.current_time()

        async def start(slot: Slot) -> GoodAnswer:
            name = slot.backend.name
            outcomes.started[name] = trio.current_time() - began
            delay, outcome = plan[name]
            try:
                await anyio.sleep(delay)
            except trio.Cancelled:
                outcomes.closed[name] = trio.current_time() - began
                raise
            if not isinstance(outcome, AttemptFailed) or outcome.fault in REACHED:
                slot.connected()
            if isinstance(outcome, Exception):
                raise outcome
            return answer(slot, lambda: outcomes.closed.update({name: trio.current_time() - began}))

        route = RouteRequest(M, key, load_options, is_slotless)
        candidates = Candidates(self.backends, route, queue_timeout)
        racing = Race(
            candidates,
            start,
            self.rules,
            began + timeout,
            is_streamed=is_streamed,
            requested_name="m1",
        )
        try:
            async with racing as winner:
                outcomes.won = winner.backend.name
                await anyio.sleep(holds)
        except GatewayError as error:
            outcomes.error = error
        outcomes.ended = trio.current_time() - began
        return outcomes

    def assert_idle(self) -> None:
        """Assert that no race left anything behind."""
        assert [backend.in_flight for backend in self.backends.all] == [0] * len(self.by_name)
        assert len(self.backends.line) == 0

    def figure(self, name: str, **labels: str) -> float:
        """Return a figure of the metrics."""
        return self.metrics.value(name, labels) or 0


class Unread(BackendAnswer):
    """An answer without a connection, which reports when it is closed."""

    def __init__(self, on_close: Callable[[], None]) -> None:
        self.on_close = on_close

    async def aclose(self) -> None:
        """Report the close."""
        self.on_close()


def answer(slot: Slot, on_close: Callable[[], None]) -> GoodAnswer:
    """Return a whole answer that reports when it is closed."""
    memory = AnswerMemory(AnswerBudget(0))
    return GoodAnswer(slot, CALL, 200, [], WholeBody(), [b"{}"], Unread(on_close), memory)


NEVER: Final = math.inf
