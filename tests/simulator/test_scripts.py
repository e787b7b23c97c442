"""Scripts: each fault, in each dialect where it looks different."""

from __future__ import annotations

import anyio
import pytest
import trio.testing

from ollama_gateway.simulator import Model, Script, Simulator, memory_server
from tests.simulator.client import Answer, ask, request

Clock = trio.testing.MockClock
CHAT = {"model": "m1", "messages": [{"role": "user", "content": "hi"}]}
WHOLE = CHAT | {"stream": False}
EVENTS = CHAT | {"stream": True}
BOOM = "an error was encountered while running the model: boom"


async def scripted(script: Script, path: str = "/api/chat", body: object = CHAT) -> Answer:
    """Send one request with that script."""
    simulator = Simulator([Model("m1")])
    simulator.script(script)
    async with memory_server(simulator) as connect:
        return await ask(await connect(), "POST", path, body)


async def test_before_delays_the_answer(
    autojump_clock: Clock,
) -> None:
    """The whole answer comes that much later."""
    start = anyio.current_time()
    answer = await scripted(Script(before=3))

    assert answer.chunks[0][0] - start == 3
    assert answer.is_complete


@pytest.mark.parametrize(
    ("path", "body", "kind", "framing", "expected"),
    [
        ("/api/chat", CHAT, "application/json", "chunked", b'{"error":"busy"}'),
        ("/api/chat", WHOLE, "application/json; charset=utf-8", "length", b'{"error":"busy"}'),
        ("/api/embed", {"model": "m1"}, "application/json; charset=utf-8", "length", None),
        ("/v1/chat/completions", EVENTS, "application/json", "chunked", None),
        ("/v1/chat/completions", CHAT, "application/json", "length", None),
    ],
)
async def test_a_status_is_told_in_the_dialect(
    path: str, body: object, kind: str, framing: str, expected: bytes | None
) -> None:
    """An error before the first chunk has its status, its headers and the shape of the path."""
    script = Script(status=503, error="busy", headers=(("Retry-After", "7"),))
    answer = await scripted(script, path, body)

    assert (answer.status, answer.kind, answer.framing) == (503, kind, framing)
    assert answer.headers["retry-after"] == "7"
    if path.startswith("/v1"):
        expected = b'{"error":{"message":"busy","type":"api_error","param":null,"code":null}}\n'
    assert answer.body == (expected or b'{"error":"busy"}')
    assert answer.is_complete


async def test_a_native_error_in_the_middle_is_the_last_line() -> None:
    """The stream reports the error and ends properly, without `done`."""
    answer = await scripted(Script(error_after=1))

    assert [line.get("done") for line in answer.lines] == [False, None]
    assert answer.lines[-1] == {"error": BOOM}
    assert answer.is_complete


@pytest.mark.parametrize(
    ("path", "body", "part"),
    [
        ("/v1/chat/completions", EVENTS, {"delta": {"content": ""}}),
        ("/v1/completions", {"model": "m1", "prompt": "x", "stream": True}, {"text": ""}),
    ],
)
async def test_an_openai_error_in_the_middle_loses_its_text(
    path: str, body: object, part: dict[str, object]
) -> None:
    """One chunk without a model, then the end without finish, usage or `[DONE]`."""
    answer = await scripted(Script(error_after=1), path, body)

    assert [event["model"] for event in answer.events] == ["m1", ""]
    choice = answer.events[-1]["choices"][0]
    assert part.items() <= choice.items()
    assert choice["finish_reason"] is None
    assert answer.is_complete


@pytest.mark.parametrize(
    ("script", "path", "body"),
    [
        (Script(error_after=0), "/api/chat", CHAT),
        (Script(error_after=1), "/api/chat", WHOLE),
        (Script(error_after=0), "/v1/chat/completions", EVENTS),
        (Script(error_after=1), "/v1/chat/completions", CHAT),
        (Script(error_after=0), "/api/embed", {"model": "m1", "input": "a"}),
    ],
)
async def test_an_error_with_nothing_sent_is_a_500(script: Script, path: str, body: object) -> None:
    """Before the first token, and in whole answers, a failure has a status."""
    answer = await scripted(script, path, body)

    assert answer.status == 500
    assert BOOM in answer.body.decode()


@pytest.mark.parametrize("count", [1, 2, 3])
async def test_a_cut_comes_after_so_many_chunks(count: int) -> None:
    """The connection closes after the chunks; even past the last one the end is not marked."""
    answer = await scripted(Script(cut_after=count))

    assert len(answer.lines) == count
    assert not answer.is_complete
    assert not answer.was_reset


@pytest.mark.parametrize(
    ("path", "body", "count"),
    [
        ("/v1/chat/completions", EVENTS | {"stream_options": {"include_usage": True}}, 1),
        ("/v1/chat/completions", EVENTS | {"stream_options": {"include_usage": True}}, 5),
        ("/v1/responses", {"model": "m1", "input": "x", "stream": True}, 1),
        ("/v1/responses", {"model": "m1", "input": "x", "stream": True}, 10),
        ("/v1/messages", EVENTS | {"max_tokens": 9}, 3),
        ("/v1/messages", EVENTS | {"max_tokens": 9}, 7),
    ],
)
async def test_a_cut_counts_every_event(path: str, body: object, count: int) -> None:
    """On `/v1` each event is a chunk, usage and `[DONE]` included; a cut may follow the last."""
    answer = await scripted(Script(cut_after=count), path, body)

    assert answer.body.count(b"data: ") == count
    assert not answer.is_complete


async def test_a_cut_before_the_head_leaves_nothing() -> None:
    """A cut after no chunk sends not even a status."""
    answer = await scripted(Script(cut_after=0))

    assert (answer.status, answer.body) == (0, b"")


async def test_an_answer_of_one_piece_is_cut_in_its_middle() -> None:
    """Fewer bytes come than Content-Length announces."""
    answer = await scripted(Script(cut_after=1), body=WHOLE)

    assert answer.status == 200
    assert len(answer.body) == int(answer.headers["content-length"]) // 2
    assert not answer.is_complete


async def test_a_cut_may_be_a_reset() -> None:
    """The reader gets a broken connection instead of an end."""
    answer = await scripted(Script(cut_after=0, reset=True))

    assert answer.was_reset


@pytest.mark.parametrize(
    ("count", "path", "body"),
    [
        (0, "/api/chat", CHAT),
        (2, "/api/chat", CHAT),
        (3, "/api/chat", CHAT),
        (1, "/v1/chat/completions", EVENTS),
        (1, "/v1/messages", EVENTS | {"max_tokens": 9}),
        (1, "/api/chat", WHOLE),
    ],
)
async def test_a_hang_lasts_until_the_client_goes(
    autojump_clock: Clock,
    count: int,
    path: str,
    body: object,
) -> None:
    """The chunks come, then nothing for an hour; the client's leaving is recorded at once."""
    simulator = Simulator([Model("m1")])
    simulator.script(Script(hang_after=count))
    async with memory_server(simulator) as connect:
        stream = await connect()
        start = anyio.current_time()
        await stream.send(request("POST", path, body))
        data = b""
        with anyio.move_on_after(3600):
            while True:
                data += await stream.receive()
        await stream.aclose()
        await anyio.sleep(1)

    assert data.count(b'"m1"') == count
    assert simulator.seen[0].gone_at == start + 3600
    assert simulator.seen[0].finished_at is None
    assert simulator.in_flight == 0


@pytest.mark.parametrize(
    ("path", "body", "marker"),
    [
        ("/api/chat", CHAT, b'"done":true'),
        ("/api/generate", {"model": "m1", "prompt": "x"}, b'"done":true'),
        ("/v1/chat/completions", EVENTS, b"[DONE]"),
        ("/v1/completions", {"model": "m1", "prompt": "x", "stream": True}, b"[DONE]"),
        ("/v1/responses", {"model": "m1", "input": "x", "stream": True}, b"response.completed"),
        ("/v1/messages", EVENTS | {"max_tokens": 9}, b"message_stop"),
    ],
)
async def test_no_done_ends_cleanly_without_the_marker(
    path: str, body: object, marker: bytes
) -> None:
    """The tokens come and the body ends properly; only the terminal record is missing."""
    answer = await scripted(Script(no_done=True), path, body)

    assert answer.is_complete
    assert b"lo" in answer.body
    assert marker not in answer.body


async def test_no_done_in_one_piece_has_no_figures() -> None:
    """A whole answer has `done:false` and no usage."""
    answer = await scripted(Script(no_done=True), body=WHOLE)

    assert list(answer.document) == ["model", "created_at", "message", "done"]
    assert answer.document["done"] is False


async def test_raw_bytes_drip(autojump_clock: Clock) -> None:
    """Exactly those bytes come, one in each interval, then the close."""
    simulator = Simulator([Model("m1")])
    simulator.script(Script(raw=b"abc", drip=0.5))
    async with memory_server(simulator) as connect:
        stream = await connect()
        start = anyio.current_time()
        await stream.send(request("POST", "/api/chat", CHAT))
        pieces = [(anyio.current_time() - start, piece) async for piece in stream]

    assert pieces == [(0, b"a"), (0.5, b"b"), (1.0, b"c")]


async def test_raw_bytes_come_at_once() -> None:
    """Without a drip the bytes come at once."""
    answer = await scripted(Script(raw=b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<p>"))

    assert (answer.status, answer.kind, answer.body) == (200, "text/html", b"<p>")


async def test_a_script_is_for_the_requests_it_names() -> None:
    """Model in any spelling, path and count select requests; scripts keep their order."""
    simulator = Simulator([Model("m1"), Model("m2")])
    simulator.script(Script(status=500), model="M2:latest", times=2)
    simulator.script(Script(status=502), path="/api/tags")
    simulator.script(Script(status=503), times=None)
    names = ("m1", "m2", "library/m2", "m2", "m1")
    async with memory_server(simulator) as connect:
        stream = await connect()
        chats = [await ask(stream, "POST", "/api/chat", WHOLE | {"model": name}) for name in names]
        polls = [await ask(stream, "GET", f"/api/{path}") for path in ("ps", "tags", "tags")]
        simulator.clear_scripts()
        after = await ask(stream, "POST", "/api/chat", WHOLE)

    assert [chat.status for chat in chats] == [503, 500, 500, 503, 503]
    assert [poll.status for poll in polls] == [200, 502, 200]
    assert after.status == 200
