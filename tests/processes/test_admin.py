"""The admin listener of several processes, which are real sockets without processes here."""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import trio

from ollama_gateway.errors import Unauthorized, Unavailable
from ollama_gateway.flow.ask import Ask
from ollama_gateway.flow.endpoints import Endpoint
from ollama_gateway.http.listener import Listener
from ollama_gateway.metrics import Metrics, running, traffic
from ollama_gateway.metrics.exposition import FORMS, LINES, render
from ollama_gateway.metrics.families import SampleFamily
from ollama_gateway.processes.admin import MergedAdmin, Roster, RosterMember
from ollama_gateway.reasons import Reason
from ollama_gateway.server.admin_access import AdminAccess
from ollama_gateway.server.app import App, AppConfig
from ollama_gateway.server.bodies import BodyBudget
from ollama_gateway.server.reload_handlers import JSON_HEADERS
from ollama_gateway.server.routes import Route, Routes
from ollama_gateway.turns import run_through
from tests.http.serving import render_early_error, serving

TOKEN = "operators-only-token"
READY = {"ready": True, "reasons": [], "degraded": [], "requests": 1}


@attrs.define
class Answers:
    """The answers of a process by path; a path that ends with a slash takes a parameter."""

    documents: Mapping[str, Any]
    metrics: Metrics = attrs.field(factory=Metrics)
    asked: list[tuple[str, str]] = attrs.field(factory=list)
    """Parameters and queries."""

    def app(self) -> App:
        """Make the application of its admin listener."""
        table: dict[str, dict[str, Route]] = {}
        under: dict[str, dict[str, Route]] = {}
        for path in [*self.documents, "/metrics"]:
            route = Route(Endpoint(path.rstrip("/"), "admin"), self._answer)
            (under if path.endswith("/") else table)[path.rstrip("/")] = {"GET": route}
        return App(AppConfig(Routes(table, under)), BodyBudget(1, 1), self.metrics)

    def _lines(self) -> bytes:
        return run_through(render(self.metrics.families.values(), FORMS[LINES]))

    async def _answer(self, ask: Ask) -> None:
        if ask.credential is not None:
            raise Unauthorized
        self.asked.append((ask.parameter, ask.query))
        found = self.documents.get(ask.path, self.documents.get(f"{ask.path}/"))
        if found is Unavailable:
            raise Unavailable("not now", reason=Reason.QUOTA_UNAVAILABLE)
        body = json.dumps(found).encode() if found else self._lines()
        await ask.downstream.respond(200, JSON_HEADERS, body)


@asynccontextmanager
async def processes(directory: Path, *answers: Answers | None) -> AsyncIterator[Roster]:
    """Run processes for the length of the block; None is one that has just died."""
    roster = Roster()
    async with AsyncExitStack() as stack, trio.open_nursery() as nursery:
        for number, said in enumerate(answers):
            path = directory / str(number)
            roster.add(RosterMember(number, 100 + number, path, serves=True))
            if said is not None:
                sock = stack.enter_context(socket.socket(socket.AF_UNIX))
                sock.setblocking(False)  # noqa: FBT003 - the standard library's signature
                sock.bind(str(path))
                sock.listen()
                nursery.start_soon(Listener(said.app(), render_early_error, 10).serve, [sock])
        yield roster
        nursery.cancel_scope.cancel()


async def get(roster: Roster, path: str, token: str = TOKEN) -> tuple[int, str]:
    """Return the parent's answer: status and body."""
    routes = MergedAdmin(roster, AdminAccess(TOKEN), Metrics()).routes()
    app = App(AppConfig(routes), BodyBudget(1, 1), Metrics())
    head = f"GET {path} HTTP/1.1\r\nhost: h\r\nauthorization: Bearer {token}\r\n"
    async with serving(app) as peer:
        answer = await peer.exchange(head.encode() + b"connection: close\r\n\r\n")
    head, _, body = answer.decode().partition("\r\n\r\n")
    return int(head.split()[1]), body


async def test_all_are_asked_and_one_answer_is_made(tmp_path: Path) -> None:
    """Readiness and status merge the answers, and include each process's own."""
    one, other = (Answers({"/readyz": READY, "/status.json": READY}) for _ in range(2))
    async with processes(tmp_path, one, None, other) as roster:
        ready = await get(roster, "/readyz")
        status = json.loads((await get(roster, "/status.json"))[1])

    silent = ["process 1 does not answer"]
    assert (ready[0], json.loads(ready[1])["degraded"]) == (200, silent)
    assert (status["requests"], status["degraded"]) == (2, silent)
    assert [shown["pid"] for shown in status["processes"]] == [100, 101, 102]
    assert [bool(shown["status"]) for shown in status["processes"]] == [True, False, True]


async def test_nobody_is_ready_where_nobody_answers(tmp_path: Path) -> None:
    """Without answers `/readyz` is 503; the parent itself is alive."""
    async with processes(tmp_path, None) as roster:
        assert (await get(roster, "/readyz"))[0] == 503
        assert await get(roster, "/healthz") == (200, '{"alive":true}')


async def test_counters_never_go_back(tmp_path: Path) -> None:
    """Counters stay when a process is silent or has ended, and when its successor begins at 0."""
    first = Answers({})
    for _ in range(3):
        first.metrics.retry("started")
    async with processes(tmp_path, first) as roster:
        seen = [retries(await get(roster, "/metrics"))]
        first.metrics.retry("started")
        seen.append(retries(await get(roster, "/metrics")))
    seen.append(retries(await get(roster, "/metrics")))
    roster.remove(roster.members[0])
    seen.append(retries(await get(roster, "/metrics")))
    second = Answers({})
    second.metrics.retry("started")
    (tmp_path / "next").mkdir()
    async with processes(tmp_path / "next", second) as successors:
        roster.add(successors.members[0])
        seen.append(retries(await get(roster, "/metrics")))

    assert seen == [3, 4, 4, 4, 5]


async def test_a_silent_process_has_no_gauges(tmp_path: Path) -> None:
    """Of a process that does not answer any more its last counts stay, and it is not ready."""
    said = Answers({})
    said.metrics.retry("started")
    for definition, value in ((traffic.WAITING, 3), (running.READY, 1)):
        said.metrics.families[definition.name] = SampleFamily(definition)
        said.metrics.families[definition.name].put(value)
    async with processes(tmp_path, said) as roster:
        _, before = await get(roster, "/metrics")
    status, after = await get(roster, "/metrics")

    assert "ollama_gateway_waiting 3.0\n" in before
    assert "ollama_gateway_ready 1.0\n" in before
    assert "ollama_gateway_waiting" not in after
    assert "ollama_gateway_ready 0.0\n" in after
    assert retries((status, after)) == 1


def retries(answer: tuple[int, str]) -> float:
    """Return a counter of a page."""
    assert answer[0] == 200
    line = next(line for line in answer[1].splitlines() if line.startswith("ollama_gateway_retr"))
    return float(line.rpartition(" ")[2])


async def test_one_process_speaks_of_a_key_or_a_model(tmp_path: Path) -> None:
    """The first process that answers gets the request unchanged; its refusals are passed on."""
    models = {"models": ["m"]}
    said = Answers({"/explain/": {"model": "m"}, "/limits/": Unavailable, "/models.json": models})
    async with processes(tmp_path, None, said) as roster:
        explained = await get(roster, "/explain/hf.co%2Fa%2Fb:Q4?key=k%26")
        limits = await get(roster, "/limits/k1")
        listed = await get(roster, "/models.json")

    assert listed == (200, json.dumps(models))
    assert explained == (200, '{"model": "m"}')
    assert (limits[0], json.loads(limits[1])) == (503, {"error": "not now"})
    assert said.asked == [("hf.co%2Fa%2Fb:Q4", "key=k%26"), ("k1", ""), ("", "")]


async def test_without_a_process_nobody_speaks(tmp_path: Path) -> None:
    """Without a process the answer is a 503 with this reason."""
    async with processes(tmp_path, None) as roster:
        assert (await get(roster, "/limits/k1"))[0] == 503


async def test_the_token_is_asked_for_here(tmp_path: Path) -> None:
    """A request with a wrong token reaches no process; only `/healthz` needs none."""
    said = Answers({"/readyz": READY, "/explain/": READY})
    async with processes(tmp_path, said) as roster:
        for path in ("/readyz", "/metrics", "/status.json", "/limits/k", "/explain/m"):
            assert (await get(roster, path, "wrong"))[0] == 401
        assert (await get(roster, "/healthz", "wrong"))[0] == 200

    assert said.asked == []
