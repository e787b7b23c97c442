"""Any request gets an HTTP answer, and the simulator survives."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Iterator
from typing import Any

import anyio
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from ollama_gateway.simulator import Call, Model, Simulator, memory_server
from ollama_gateway.simulator.routes import ROUTES
from tests.simulator.bodies import BODIES
from tests.simulator.client import Answer, answer, ask

METHODS = {"/api/delete": "DELETE"}
ODD: list[Any] = [
    *(None, True, False, 0, 5, -1, 1.5, 2**70, "", "x", "\ud800", "1d", "json"),
    *([], [5], [None], [[]], ["x"], [{}], {}, {"a": 1}, {"type": 5}, {"a": None}, {"type": "text"}),
]
STATUSES = {200, 400, 401, 403, 404, 500}
OWN_FAULTS = ("option ", "invalid format", "template", "unsupported quantization", "open /models/")


def simulator() -> Simulator:
    """Make one that thinks, calls tools and embeds."""
    agent = Model(
        "agent",
        capabilities=("completion", "tools", "thinking", "insert", "vision", "embedding"),
        thinking=("hm",),
        calls=(Call("f"),),
    )
    return Simulator([agent], registry=[Model("far", size=4000)], is_recording=False)


def places(value: Any) -> Iterator[tuple[Any, ...]]:
    """Return the path to every place in a value, the whole value first."""
    yield ()
    items = enumerate(value) if isinstance(value, list) else ()
    for key, item in value.items() if isinstance(value, dict) else items:
        yield from ((key, *rest) for rest in places(item))


def put(value: Any, way: tuple[Any, ...], item: Any) -> Any:
    """Return a copy with another value in one place."""
    if not way:
        return item
    changed = copy.deepcopy(value)
    holder = changed
    for key in way[:-1]:
        holder = holder[key]
    holder[way[-1]] = item
    return changed


def check(answer: Answer, body: bytes) -> None:
    """Check that an answer is valid, and a failure written in Ollama's manner."""
    assert answer.is_complete, body
    assert answer.status in STATUSES, body
    if answer.status >= 400 and answer.kind.startswith("application/json"):
        error = answer.document["error"]
        text = error if isinstance(error, str) else error["message"]
        assert text, body
        assert answer.status != 500 or text.startswith((*OWN_FAULTS, "invalid digest")), body


async def every(path: str, sent: Iterable[bytes]) -> None:
    """Send bodies to a route, and a good request afterwards."""
    async with memory_server(simulator()) as connect:
        stream = await connect()
        for body in sent:
            check(await ask(stream, METHODS.get(path, "POST"), path, body), body)
        assert (await ask(stream, "GET", "/api/version")).status == 200


def test_every_route_that_reads_a_body_is_tried() -> None:
    """The table holds every route that reads a body."""
    reading = {path for path, route in ROUTES.items() if "GET" not in route.methods}

    assert set(BODIES) == reading


@pytest.mark.parametrize("path", BODIES)
def test_any_type_in_any_place_gets_an_answer(path: str) -> None:
    """A value of each type in each place of a body is served, or refused as Ollama does."""
    body = BODIES[path]
    changed = (put(body, way, odd) for way in places(body) for odd in ODD)
    trio.run(every, path, (json.dumps(value).encode() for value in changed))


ANYTHING = st.recursive(
    st.sampled_from(ODD) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                (
                    "type",
                    "role",
                    "content",
                    "text",
                    "function",
                    "arguments",
                    "name",
                    "source",
                    "url",
                )
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@st.composite
def bodies(draw: st.DrawFn) -> tuple[str, bytes]:
    """Make a body for a route, with any values in up to three places."""
    path = draw(st.sampled_from(sorted(BODIES)))
    body: Any = BODIES[path]
    for _ in range(draw(st.integers(1, 3))):
        way = draw(st.sampled_from(list(places(body))))
        body = put(body, way, draw(ANYTHING))
    return path, json.dumps(body).encode()


@settings(max_examples=200, derandomize=True, deadline=None)
@given(bodies())
def test_anything_in_some_places_gets_an_answer(asked: tuple[str, bytes]) -> None:
    """Nested values of any type are served or refused too."""
    path, body = asked
    trio.run(every, path, [body])


DEEP = 900
STRANGE = [
    b"",
    b"\xff\xfe",
    b'{"model":' + b"9" * 5000 + b"}",
    b'{"model":"agent","options":{"seed":1e999}}',
    b'{"model":"agent","keep_alive":' + b"9" * 400 + b"}",
    b'{"model":"agent","x":' + b"[" * DEEP + b"]" * DEEP + b"}",
    b'{"model":"agent","tools":' + b'[{"tools":' * 280 + b"[]" + b"}]" * 280 + b"}",
    b'{"model":"agent","options":' + b'{"a":' * 500 + b"1" + b"}" * 500 + b"}",
    b'{"model":"made","from":"agent","system":"\\ud800","prompt":"\\udfff","input":"\\ud83d"}',
    b'{"model":"\\ud800","name":"\\ud800","source":"\\ud800"}',
    b'{"model":"' + b"a" * 100_000 + b'"}',
    b'{"model":"m\\u0000"}',
]


@pytest.mark.parametrize("path", BODIES)
def test_strange_bytes_get_an_answer(path: str) -> None:
    """Numbers too large, nesting too deep and lone surrogates get an answer too."""
    trio.run(every, path, STRANGE)


HEADS = [
    *(
        f"{method} {path} HTTP/1.1"
        for method in ("CONNECT", "TRACE", "PUT", "get", "OPTIONS", "HEAD")
        for path in ("/", "/api/chat", "*", "host:80", "/nope", "/api/tags")
    ),
    *(
        f"GET {path} HTTP/1.1"
        for path in (
            "/%",
            "/%ff%00",
            "/v1/models/%ff",
            "/v1/models/%0a",
            "/v1/models/a:b:c",
            "/api/blobs/x",
            "/api/blobs/%00",
            "//",
            "/..",
            "/../api/tags/",
            "/api/tags?%ff",
            "http://x/api/tags",
            "/;",
        )
    ),
    "GET / HTTP/1.0",
    "GET / HTTP/2.0",
    "GET /api/version HTTP/1.1\r\nUpgrade: h2c\r\nConnection: Upgrade",
    "GET /api/version HTTP/1.1\r\nConnection: close, upgrade\r\nUpgrade: websocket",
    "POST /api/chat HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 0",
    "POST /api/chat HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    "POST /api/chat HTTP/1.1\r\nTransfer-Encoding: gzip",
    "POST /api/chat HTTP/1.1\r\nContent-Length: -1",
    "GET /api/version HTTP/1.1\r\nOrigin: app://\u00c3\u00a4",
    "GET /api/version HTTP/1.1\r\nOrigin: http://localhost:[",
]


async def headed(head: str) -> Answer:
    """Send a head as it is, and a good request afterwards."""
    async with memory_server(simulator()) as connect:
        stream = await connect()
        await stream.send(f"{head}\r\nHost: sim\r\n\r\n".encode("latin-1"))
        with anyio.fail_after(5):
            told = await answer(stream, head.partition(" ")[0])
        assert (await ask(await connect(), "GET", "/api/version")).status == 200
    return told


@pytest.mark.parametrize("head", HEADS)
def test_a_strange_head_gets_an_answer(head: str) -> None:
    """Methods, targets and headers that no ordinary client sends are answered."""
    assert trio.run(headed, head).status in {*STATUSES, 301, 307, 405}
