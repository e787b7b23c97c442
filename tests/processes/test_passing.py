"""The admin API of several processes, which are real sockets with the real API here."""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import trio

from ollama_gateway.control.errors import NoSuchThing
from ollama_gateway.control.shapes import Anything, Fields, Text
from ollama_gateway.http.listener import Listener
from ollama_gateway.metrics import Metrics
from ollama_gateway.processes.admin import MergedAdmin, Roster, RosterMember
from ollama_gateway.server.admin_access import AdminAccess
from ollama_gateway.server.admin_api.operation import AdminCall, AdminReply, Operation
from ollama_gateway.server.app import App, AppConfig
from ollama_gateway.server.bodies import BodyBudget
from tests.http.serving import read_until, render_early_error, serving
from tests.support.patience import until

TOKEN = "operators-only-token"


@attrs.define
class Things:
    """One process's operations, and what it was asked."""

    name: str
    asked: list[AdminCall] = attrs.field(factory=list)
    waiting: trio.Event = attrs.field(factory=trio.Event)
    is_left: bool = False
    next_line: trio.Event = attrs.field(factory=trio.Event)

    def app(self) -> App:
        """Make the application of its admin listener, as a process behind a parent has it."""
        access = AdminAccess(is_behind_parent=True)
        takes = Fields({"reason": Text()})
        operations = [
            Operation("GET", "/things/{id}", "viewer", "Get.", self._get, Anything()),
            Operation("POST", "/things/{id}", "operator", "Do.", self._do, Anything(), takes=takes),
            Operation("DELETE", "/things/{id}", "admin", "Delete.", self._delete),
            Operation("POST", "/lines", "operator", "Watch.", self._lines, Anything()),
        ]
        routes = access.routes({}, {}, operations=operations)
        return App(AppConfig(routes), BodyBudget(2**20, 2**20), Metrics())

    async def _get(self, call: AdminCall) -> AdminReply:
        self.asked.append(call)
        if call.path["id"] == "none":
            raise NoSuchThing("no such thing")
        return AdminReply({"by": self.name, **call.path}, etag="v1")

    async def _do(self, call: AdminCall) -> AdminReply:
        self.asked.append(call)
        return AdminReply({"by": self.name, "reason": call.document["reason"]})

    async def _delete(self, call: AdminCall) -> AdminReply:
        self.asked.append(call)
        return AdminReply()

    async def _lines(self, call: AdminCall) -> AdminReply:
        self.asked.append(call)

        async def lines() -> AsyncIterator[Any]:
            yield {"line": 1}
            self.waiting.set()
            try:
                await self.next_line.wait()
            except trio.Cancelled:
                self.is_left = True
                raise
            yield {"line": 2}

        return AdminReply(lines=lines())


@asynccontextmanager
async def processes(directory: Path, *things: Things | None) -> AsyncIterator[Roster]:
    """Run processes for the length of the block; None is one that has just died."""
    roster = Roster()
    async with AsyncExitStack() as stack, trio.open_nursery() as nursery:
        for number, one in enumerate(things):
            path = directory / str(number)
            roster.add(RosterMember(number, 100 + number, path, serves=True))
            if one is not None:
                sock = stack.enter_context(socket.socket(socket.AF_UNIX))
                sock.setblocking(False)  # noqa: FBT003 - the standard library's signature
                sock.bind(str(path))
                sock.listen()
                nursery.start_soon(Listener(one.app(), render_early_error, 10).serve, [sock])
        yield roster
        nursery.cancel_scope.cancel()


@attrs.frozen
class ParentAnswer:
    """The parent's answer."""

    status: int
    headers: dict[str, str]
    text: str

    @property
    def document(self) -> Any:
        """The body as JSON."""
        return json.loads(self.text)


def parent_app(roster: Roster, operations: list[Operation] | None = None) -> App:
    """Make the application of the parent's admin listener."""
    admin = MergedAdmin(roster, AdminAccess(TOKEN), Metrics(), operations=operations or [])
    return App(AppConfig(admin.routes()), BodyBudget(2**20, 2**20), Metrics())


def request(method: str, path: str, body: bytes = b"", *more: str, token: str = TOKEN) -> bytes:
    """Return a request's bytes; `more` are header lines."""
    lines = [
        f"{method} /admin/v1{path} HTTP/1.1",
        "host: localhost",
        f"authorization: Bearer {token}",
        f"content-length: {len(body)}",
        "connection: close",
        *more,
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body


async def ask(app: App, *given: Any, **named: Any) -> ParentAnswer:
    """Ask the parent, and read the answer to its end."""
    async with serving(app) as peer:
        answer = await peer.exchange(request(*given, **named))
    head, _, body = answer.decode().partition("\r\n\r\n")
    [first, *lines] = head.split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines)
    return ParentAnswer(int(first.split()[1]), headers, body)


async def test_one_process_answers_and_knows_who_asked(tmp_path: Path) -> None:
    """Method, path, query, body and the operator reach the first process that can be reached."""
    one, other = Things("one"), Things("other")
    async with processes(tmp_path, None, one, other) as roster:
        app = parent_app(roster)
        done = await ask(app, "POST", "/things/a%2Fb", b'{"reason": "because"}')
        got = await ask(app, "GET", "/things/a")
        deleted = await ask(app, "DELETE", "/things/a")

    assert (done.status, done.document) == (200, {"by": "one", "reason": "because"})
    assert (got.document, got.headers["etag"]) == ({"by": "one", "id": "a"}, '"v1"')
    assert (deleted.status, deleted.text) == (204, "")
    assert [call.actor.name for call in one.asked] == ["settings"] * 3
    assert one.asked[0].path == {"id": "a/b"}
    assert other.asked == []


async def test_errors_of_a_process_are_the_parents(tmp_path: Path) -> None:
    """Problem details pass through with status, headers, and the id that the answer has, too."""
    async with processes(tmp_path, Things("one")) as roster:
        app = parent_app(roster)
        answers = [
            await ask(app, "GET", "/things/none"),
            await ask(app, "GET", "/nothing"),
            await ask(app, "PATCH", "/things/a"),
            await ask(app, "POST", "/things/a", b'{"reason": 1}'),
        ]

    assert [answer.status for answer in answers] == [404, 404, 405, 422]
    for answer in answers:
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.document["request_id"] == answer.headers["x-request-id"]
    assert answers[2].headers["allow"] == "delete, get, post"
    assert answers[3].document["problems"] == [{"where": "/reason", "detail": "is not a string"}]


async def test_the_parent_lets_operators_in(tmp_path: Path) -> None:
    """A wrong token reaches no process, and no client can say who it is."""
    one = Things("one")
    forged = ("x-gateway-actor: mallory", "x-gateway-role: admin")
    async with processes(tmp_path, one) as roster:
        app = parent_app(roster)
        wrong = await ask(app, "GET", "/things/a", b"", token="wrong")
        await ask(app, "GET", "/things/a", b"", *forged)
    direct = await ask(one.app(), "GET", "/things/a", b"", *forged)

    assert (wrong.status, wrong.document["status"]) == (401, 401)
    assert [call.actor.name for call in one.asked] == ["settings"]
    assert direct.status == 401


async def test_lines_come_as_they_are_made(tmp_path: Path) -> None:
    """A streamed answer arrives line by line; a client that leaves ends it in the process."""
    one = Things("one")
    async with (
        processes(tmp_path, one) as roster,
        serving(parent_app(roster)) as peer,
    ):
        stream = await peer.connect()
        await stream.send_all(request("POST", "/lines"))
        await read_until(stream, b'{"line": 1}')
        await stream.aclose()
        await until(lambda: one.is_left)

        one.next_line.set()
        whole = await peer.exchange(request("POST", "/lines"))

    assert b'{"line": 2}' in whole
    assert whole.endswith(b"0\r\n\r\n")


async def test_a_change_is_asked_of_one_process_only(tmp_path: Path) -> None:
    """If a process ends with a change in its hands, no other gets it; what only reads is asked on.

    Here the first process takes the request, and closes.
    """
    other = Things("other")

    async def take_and_close(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.aclose()

    async with processes(tmp_path, None, other) as roster, trio.open_nursery() as nursery:
        sock = trio.socket.socket(trio.socket.AF_UNIX)
        await sock.bind(str(tmp_path / "0"))
        sock.listen()
        listener = trio.SocketListener(sock)
        nursery.start_soon(trio.serve_listeners, take_and_close, [listener])
        app = parent_app(roster)
        changed = await ask(app, "POST", "/things/a", b'{"reason": "because"}')
        read = await ask(app, "GET", "/things/a")
        nursery.cancel_scope.cancel()

    assert changed.status == 503
    assert "look whether it made the change" in changed.document["detail"]
    assert read.document["by"] == "other"
    assert [call.document for call in other.asked] == [None]


async def test_without_a_process_there_is_a_problem(tmp_path: Path) -> None:
    """Without a process the answer is a 503 with problem details, and says when to come back."""
    async with processes(tmp_path, None) as roster:
        answer = await ask(parent_app(roster), "GET", "/things/a")

    assert (answer.status, answer.headers["retry-after"]) == (503, "1")
    assert answer.document["detail"] == "no process answers, try again"


async def test_the_parent_has_operations_of_its_own(tmp_path: Path) -> None:
    """One that needs all processes asks them at once, and has what those in reach say."""
    one, other = Things("one"), Things("other")
    async with processes(tmp_path, one, None, other) as roster:
        passed = MergedAdmin(roster, AdminAccess(TOKEN), Metrics()).passed

        async def all_of(call: AdminCall) -> AdminReply:
            answers = await passed.ask_all("GET", f"/things/{call.path['id']}", call.actor, "r")
            return AdminReply([document["by"] for status, document in answers if status == 200])

        own = Operation("GET", "/things/{id}", "viewer", "Get all.", all_of, Anything())
        app = parent_app(roster, [own])
        got = await ask(app, "GET", "/things/a")
        await ask(app, "DELETE", "/things/a")

    assert got.document == ["one", "other"]
    assert [len(one.asked), len(other.asked)] == [2, 1]
