"""Pull, push, create, copy and delete go to one backend, unchanged, and update the lists."""

from __future__ import annotations

import pytest

from ollama_gateway.simulator import Script
from tests.server.managing import ManagingClient, managed, publishing
from tests.support.scenario import Reply

pytestmark = pytest.mark.virtual_time


async def test_a_pull_passes_unchanged_and_is_listed_with_its_last_byte(
    client: ManagingClient,
) -> None:
    """A pull's lines pass unchanged; at `success` the model is listed."""
    listed: list[list[str]] = []

    async def look(reply: Reply) -> None:
        if reply.body.endswith(b'{"status":"success"}\n') and not listed:
            listed.append(await client.names())

    reply = await client.ask("/api/pull", {"model": "new:1"}, to="b", watch=look)
    statuses = [line["status"] for line in reply.lines]

    assert (reply.status, reply.is_complete) == (200, True)
    assert reply.headers["content-type"] == "application/x-ndjson"
    assert (statuses[0], statuses[-1]) == ("pulling manifest", "success")
    assert listed == [["new:1", "shared:1"]]
    assert client.paths("a") == []
    assert client.paths("b") == ["/api/pull"]


async def test_one_record_names_model_and_backend(client: ManagingClient) -> None:
    """A management request has one audit record, without tokens."""
    await client.ask("/api/pull", {"name": "new:1", "model": ""}, to="b")
    await client.ask("/api/copy", {"source": "shared:1", "destination": "mine:2"}, to="a")

    pull, copy = client.scenario.records
    assert (pull.endpoint, pull.model, pull.backend) == ("/api/pull", "new:1", "b")
    assert (pull.outcome, pull.status, pull.prompt_tokens) == ("completed", 200, None)
    assert [attempt.backend for attempt in pull.attempts] == ["b"]
    assert (copy.endpoint, copy.model, copy.outcome) == ("/api/copy", "mine:2", "completed")


@pytest.mark.parametrize("streams", [True, False])
async def test_create_copy_push_and_delete(client: ManagingClient, *, streams: bool) -> None:
    """Each command works as in Ollama, streamed or not, and the lists follow."""
    source = {"model": "made:1", "from": "shared:1", "system": "x", "stream": streams}
    created = await client.ask("/api/create", source, to="a")
    copied = await client.ask("/api/copy", {"source": "made:1", "destination": "b:1"}, to="a")
    pushed = await client.ask("/api/push", {"model": "b:1", "stream": streams}, to="a")
    names = await client.names()
    gone = await client.ask("/api/delete", {"model": "made:1"}, method="DELETE", to="a")
    after = await client.names()
    chat = await client.ask("/api/chat", {"model": "made:1", "messages": []})

    assert [reply.status for reply in (created, copied, pushed, gone)] == [200] * 4
    assert created.lines[-1] == pushed.lines[-1] == {"status": "success"}
    assert (copied.body, gone.body) == (b"", b"")
    assert names == ["b:1", "made:1", "shared:1"]
    assert after == ["b:1", "shared:1"]
    assert chat.status == 403  # no backend hosts it any more, which is no outage


async def test_two_backends_and_no_target(client: ManagingClient) -> None:
    """Without a target a command is a 400 that names the backends, and reaches none."""
    reply = await client.ask("/api/pull", {"model": "new:1"})

    assert (reply.status, reply.document["error"].endswith("there are a, b")) == (400, True)
    assert (client.paths("a"), client.paths("b")) == ([], [])
    assert [(record.outcome, record.reason) for record in client.scenario.records] == [
        ("refused", "no_such_backend")
    ]


async def test_one_backend_is_the_target() -> None:
    """A single backend need not be named."""
    async with managed({"only": publishing()}) as client:
        assert (await client.ask("/api/pull", {"model": "new:1"})).lines[-1] == {
            "status": "success"
        }


@pytest.mark.parametrize(
    "headers",
    [
        [("x-gateway-backend", "nobody")],
        [("x-gateway-backend", "A")],
        [("x-gateway-backend", "")],
        [("x-gateway-backend", "a, b")],
        [("x-gateway-backend", "a"), ("x-gateway-backend", "b")],
        [("x-gateway-backend", "a"), ("x-gateway-backend", "a")],
    ],
)
async def test_a_target_that_is_none(
    client: ManagingClient, headers: list[tuple[str, str]]
) -> None:
    """An unknown name or two names are a 400 that lists the names, and reach no backend."""
    reply = await client.ask("/api/pull", {"model": "new:1"}, headers=headers)

    assert (reply.status, reply.document["error"].endswith("there are a, b")) == (400, True)
    assert client.paths("a") == client.paths("b") == []


@pytest.mark.parametrize("to", [None, "a", "nobody"])
@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/api/pull", {"model": "new:1"}),
        ("POST", "/api/push", {"model": "shared:1"}),
        ("POST", "/api/create", {"model": "x", "from": "shared:1"}),
        ("POST", "/api/copy", {"source": "shared:1", "destination": "x"}),
        ("DELETE", "/api/delete", {"model": "shared:1"}),
        ("HEAD", "/api/blobs/x", None),
        ("POST", "/api/blobs/x", None),
    ],
)
async def test_without_the_right(
    client: ManagingClient, method: str, path: str, body: object, to: str | None
) -> None:
    """A key without `manage` gets the generic 403, whatever it names, and one record."""
    reply = await client.ask(path, body, method=method, to=to, key=client.scenario.key)

    assert reply.status == 403
    assert method == "HEAD" or reply.document == {
        "error": "this model or endpoint is not available to this key"
    }
    assert [record.reason for record in client.scenario.records] == ["endpoint_not_allowed"]
    assert client.paths("a") == client.paths("b") == []


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/api/pull", {"model": "team/m"}, 200),
        ("/api/pull", {"model": "new:1"}, 403),
        ("/api/pull", {"model": "evil.example/team/m"}, 403),
        ("/api/push", {"name": "new:1"}, 403),
        ("/api/copy", {"source": "team/m", "destination": "team/n"}, 404),
        ("/api/copy", {"source": "shared:1", "destination": "team/n"}, 403),
        ("/api/copy", {"source": "team/m", "destination": "shared:1"}, 403),
        ("/api/create", {"model": "team/m", "from": "shared:1"}, 403),
        ("/api/create", {"model": "shared:1", "from": "team/m"}, 403),
        ("/api/create", {"model": "team/m", "FROM": "shared:1"}, 403),
        ("/api/create", {"model": "team/m", "from": "team/x:cloud"}, 403),
        ("/api/create", {"model": "team/m", "from": "team/x", "remote_host": "ollama.com"}, 403),
        ("/api/create", {"model": "team/m", "modelfile": "FROM shared:1"}, 400),
        ("/api/create", {"model": "team/m", "from": 5}, 400),
        ("/api/create", {"model": "team/m", "from": "a b"}, 400),
        ("/api/pull", {}, 400),
        ("/api/pull", {"model": "a\nb"}, 400),
        ("/api/pull", {"model": "team/m", "MODEL": "shared:1"}, 400),
        ("/api/pull", {"model": "team/m", "stream": "no"}, 400),
        ("/api/copy", {"source": "team/m"}, 400),
        ("/api/pull", b"", 400),
        ("/api/pull", b'{"model":"team/m"} {"model":"shared:1"}', 400),
    ],
)
async def test_models_that_a_key_may_touch(path: str, body: object, status: int) -> None:
    """Every name in a body must match the key's patterns, or no backend is asked."""
    async with managed(models=("team/*",)) as client:
        reply = await client.ask(path, body, to="a")

    assert reply.status == status
    assert (client.paths("a") == []) == (status in {400, 403})
    assert len(client.scenario.records) == 1


async def test_a_pull_that_fails_in_the_middle(client: ManagingClient) -> None:
    """An error line inside the 200 passes as a normal end and is recorded as a failure."""
    error = "pull model manifest: file does not exist"
    unknown = await client.ask("/api/pull", {"model": "nowhere:1"}, to="a")
    client.scenario.simulators["a"].script(
        Script(error_after=2, error="disk full"), path="/api/pull"
    )
    failed = await client.ask("/api/pull", {"model": "new:1"}, to="a")
    names = await client.names()

    assert (unknown.lines[-1], unknown.is_complete) == ({"error": error}, True)
    assert (failed.lines[-1], failed.is_complete) == ({"error": "disk full"}, True)
    assert [
        (record.outcome, record.reason, record.status) for record in client.scenario.records
    ] == [("upstream_failed", "error_in_stream", 200)] * 2
    assert names == ["shared:1"]


@pytest.mark.parametrize(
    ("script", "reason", "seconds"),
    [
        (Script(cut_after=2), "connection_broken", 0),
        (Script(hang_after=2), "idle_timeout", 300),
        (
            Script(
                raw=b"HTTP/1.1 200 OK\r\ncontent-type: application/x-ndjson\r\n"
                b'content-length: 14\r\n\r\n{"status":"x"}'
            ),
            "no_terminal_marker",
            0,
        ),
        (
            Script(
                raw=b"HTTP/1.1 200 OK\r\ncontent-type: application/x-ndjson\r\n"
                b"content-length: 5\r\n\r\noops\n"
            ),
            "garbled_answer",
            0,
        ),
    ],
)
async def test_a_stream_that_breaks(
    client: ManagingClient, script: Script, reason: str, seconds: float
) -> None:
    """A stream without `success` or error ends with an error event and a cut."""
    client.scenario.simulators["a"].script(script, path="/api/pull")
    reply = await client.ask("/api/pull", {"model": "new:1"}, to="a")

    assert (reply.status, reply.is_complete) == (200, False)
    assert list(reply.lines[-1]) == ["error"]
    assert [record.reason for record in client.scenario.records] == [reason]
    assert reply.ended_at == pytest.approx(seconds, abs=1)


@pytest.mark.parametrize(
    ("script", "status", "reason"),
    [
        (Script(status=500, error="disk full"), 500, "status_500"),
        (Script(status=404, error="no such"), 404, "backend_refused"),
        (Script(status=401, error="bad token"), 502, "status_401"),
        (Script(status=302, error="elsewhere"), 502, "status_302"),
        (Script(cut_after=0), 502, "connection_broken"),
        (Script(hang_after=0), 504, "idle_timeout"),
        (
            Script(
                raw=b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 2\r\n\r\nhi"
            ),
            502,
            "not_an_ollama",
        ),
    ],
)
async def test_answers_that_are_none(
    client: ManagingClient, script: Script, status: int, reason: str
) -> None:
    """Ollama's errors pass with their status; a refusal of the gateway itself is a 502."""
    client.scenario.simulators["a"].script(script, path="/api/delete")
    body = {"model": "shared:1"}
    reply = await client.ask("/api/delete", body, method="DELETE", to="a")

    assert (reply.status, [record.reason for record in client.scenario.records]) == (
        status,
        [reason],
    )
    assert status in {502, 504} or reply.document == {"error": script.error}
    assert client.paths("a") == ["/api/delete"]  # asked once, and no other backend
    assert client.paths("b") == []


async def test_a_backend_that_is_down(client: ManagingClient) -> None:
    """A backend that is down is a 502 or 503, and no other backend is asked."""
    client.scenario.simulators["a"].go_down()
    reply = await client.ask("/api/pull", {"model": "new:1"}, to="a")

    assert reply.status in {502, 503}
    assert client.paths("b") == []
