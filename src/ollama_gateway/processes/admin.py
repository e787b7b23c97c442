"""The parent's admin listener, which answers for all processes.

It puts each question to all processes at once, at their own admin listeners. The answer leaves out
a process that does not answer within `ANSWER_SECONDS`, and says so. Questions about one key or one
model go to the first process that answers: limits are in Redis, the same for all, and candidates
are shown as that process sees them.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Final, cast

import anyio
import attrs
import httpx

from ollama_gateway.backends.transport import Transport
from ollama_gateway.errors import Unavailable
from ollama_gateway.flow.ask import Ask
from ollama_gateway.metrics import Metrics
from ollama_gateway.processes import figures, merging
from ollama_gateway.processes.figures import MetricFamilies
from ollama_gateway.processes.merging import JSONObject
from ollama_gateway.processes.passing import PassedAPI
from ollama_gateway.reasons import Reason
from ollama_gateway.server.admin import METRICS_HEADERS
from ollama_gateway.server.admin_access import AdminAccess
from ollama_gateway.server.admin_api.operation import Operation
from ollama_gateway.server.reload_handlers import JSON_HEADERS, Reloader
from ollama_gateway.server.routes import Routes

ANSWER_SECONDS: Final = 2.0
"""Seconds that a process has for its answer; `gatewayctl` waits 5 for the whole answer."""
UNKNOWN_HOST: Final = "unknown.invalid"
"""Asks a process in the name of a host that may not see names of backends and models."""


@attrs.define(eq=False)
class RosterMember:
    """One running process."""

    number: int
    pid: int
    path: Path
    """The socket of its admin listener."""
    serves: bool = False
    """Whether it serves clients."""
    figures: MetricFamilies = attrs.field(factory=dict)
    """Its metrics, as last read."""


@attrs.define(eq=False)
class Roster:
    """The running processes, and the metrics of those that have ended."""

    members: dict[int, RosterMember] = attrs.field(factory=dict)
    """By process number."""
    starts: Counter[int] = attrs.field(factory=Counter)
    """By process number."""
    ended: MetricFamilies = attrs.field(factory=dict)
    """Counters and histograms of ended processes."""
    is_draining: bool = False

    def add(self, member: RosterMember) -> None:
        """Add a process that was started."""
        self.members[member.number] = member
        self.starts[member.number] += 1

    def remove(self, member: RosterMember) -> None:
        """Remove a process that has ended, and keep its counts."""
        del self.members[member.number]
        self.ended = figures.total([self.ended, figures.without_gauges(member.figures)])

    @property
    def serving(self) -> list[RosterMember]:
        """The processes that serve clients, by number."""
        return [member for _, member in sorted(self.members.items()) if member.serves]

    @property
    def restarts(self) -> dict[int, int]:
        """How often each process was restarted, by number."""
        return {number: count - 1 for number, count in sorted(self.starts.items())}


@attrs.frozen
class _Answer:
    status: int
    body: bytes


@attrs.frozen
class MergedAdmin:
    """Handlers of the parent's admin listener."""

    roster: Roster
    access: AdminAccess
    metrics: Metrics
    """The parent's own."""
    reloader: Reloader | None = None
    operations: Sequence[Operation] = ()
    """Of the admin API, those that the parent answers itself."""

    @property
    def passed(self) -> PassedAPI:
        """The admin API of the processes."""
        return PassedAPI(lambda: [member.path for member in self.roster.serving])

    def routes(self) -> Routes:
        """Return the routes, with the same paths as those of one process."""
        handlers = {
            "/healthz": self.health,
            "/readyz": self.ready,
            "/metrics": self.page,
            "/status.json": self.status,
            "/models.json": self.pass_on,
        }
        under = {"/limits": self.pass_on, "/explain": self.pass_on}
        return self.access.routes(
            handlers, under, self.reloader, self.operations, self.passed.pass_on
        )

    async def health(self, ask: Ask) -> None:
        """`/healthz`: the parent is alive."""
        await ask.downstream.respond(200, JSON_HEADERS, b'{"alive":true}')

    async def ready(self, ask: Ask) -> None:
        """`/readyz`: 200 while at least one process is ready, else 503 with the reasons."""
        host = "localhost" if self.access.may_see_names(ask) else UNKNOWN_HOST
        answers = await self._documents("/readyz", host)
        body = merging.readiness(answers, is_draining=self.roster.is_draining)
        await ask.downstream.respond(
            200 if body["ready"] else 503, JSON_HEADERS, json.dumps(body).encode()
        )

    async def page(self, ask: Ask) -> None:
        """`/metrics`, for Prometheus: all processes together, with those that have ended."""
        for member, answer in (await self._ask_all("/metrics")).items():
            if answer is None or answer.status != HTTPStatus.OK:
                continue
            if self.roster.members.get(member.number) is member:
                member.figures = figures.read(answer.body.decode())
        own = figures.read(self.metrics.page().decode())
        members = [member.figures for member in self.roster.members.values()]
        total = figures.total([self.roster.ended, *members, own])
        page = figures.page(total, len(self.roster.serving), self.roster.restarts)
        await ask.downstream.respond(200, METRICS_HEADERS, page)

    async def status(self, ask: Ask) -> None:
        """`/status.json`: all processes together, and each one under `processes`."""
        answers = await self._documents("/status.json")
        body = merging.status(answers, is_draining=self.roster.is_draining)
        body["processes"] = [self._process_status(number, answers[number]) for number in answers]
        await ask.downstream.respond(200, JSON_HEADERS, json.dumps(body).encode())

    def _process_status(self, number: int, answer: JSONObject | None) -> JSONObject:
        member = self.roster.members.get(number)
        return {
            "process": number,
            "pid": member and member.pid,
            "restarts": self.roster.restarts[number],
            "status": answer,
        }

    async def pass_on(self, ask: Ask) -> None:
        """`/models.json`, `/limits/KEY_ID` and `/explain/MODEL`, as one process answers them."""
        path = "/".join(filter(None, [ask.path, ask.parameter]))
        query = f"?{ask.query}" if ask.query else ""
        for member in self.roster.serving:
            answer = await self._ask(member, path + query)
            if answer is not None:
                return await ask.downstream.respond(answer.status, JSON_HEADERS, answer.body)
        raise Unavailable("no process answers, try again", reason=Reason.NO_PROCESS, retry_after=1)

    async def _documents(
        self, target: str, host: str = "localhost"
    ) -> dict[int, JSONObject | None]:
        """Return the answers by process number; None for a process that gave none."""
        found: dict[int, JSONObject | None] = dict.fromkeys(sorted(self.roster.starts))
        for member, answer in (await self._ask_all(target, host)).items():
            document = json.loads(answer.body) if answer else {}
            if "ready" in document:  # an error answer has none
                found[member.number] = document
        return found

    async def _ask_all(
        self, target: str, host: str = "localhost"
    ) -> dict[RosterMember, _Answer | None]:
        answers: dict[RosterMember, _Answer | None] = {}

        async def ask(member: RosterMember) -> None:
            answers[member] = await self._ask(member, target, host)

        async with anyio.create_task_group() as tasks:
            for member in self.roster.serving:
                tasks.start_soon(ask, member)
        return answers

    async def _ask(
        self, member: RosterMember, target: str, host: str = "localhost"
    ) -> _Answer | None:
        url = httpx.URL(f"http://{host}").copy_with(raw_path=target.encode())
        transport = Transport(partial(anyio.connect_unix, member.path))
        try:
            with anyio.fail_after(ANSWER_SECONDS):
                response = await transport.handle_async_request(httpx.Request("GET", url))
                stream = cast("httpx.AsyncByteStream", response.stream)
                body = b"".join([chunk async for chunk in stream])
        except (httpx.TransportError, TimeoutError):
            return None
        return _Answer(response.status_code, body)
