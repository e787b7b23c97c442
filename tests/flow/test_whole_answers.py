"""Whole answers: held up to 1 MiB, then passed on; a cut answer never looks complete."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
import trio
import trio.testing

from ollama_gateway.simulator import Model, Script, Simulator
from ollama_gateway.wire.whole import PASS_ON_SIZE
from tests.flow.test_audit import STRICT, find, journaled, lose
from tests.support.scenario import Reply, Scenario, open_scenario

Clock = trio.testing.MockClock
EMBED = {"model": "m1", "input": "x"}
REPORT = b'],"prompt_eval_count":7}'
BACKENDS = ("a", "b")


def sized(size: int, end: bytes = REPORT, start: bytes = b'{"model":"m1","embeddings":[') -> bytes:
    """Return an answer of this many bytes."""
    vectors = b"[0.5" + b",0.5" * ((size - len(start) - len(end) - 5) // 4) + b"]"
    space = size - len(start) - len(vectors) - len(end)
    return start + vectors + b" " * space + end


def raw(body: bytes, *, length: int | None = -1) -> Script:
    """Return an answer of these bytes and this Content-Length; None: the close ends it."""
    scenario = b"content-length: %d\r\n" % (len(body) if length == -1 else length or 0)
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
    return Script(raw=head + (b"" if length is None else scenario) + b"\r\n" + body)


async def asked(script: Script, path: str = "/api/embed", **how: Any) -> tuple[Reply, Scenario]:
    """Ask a backend that answers like this; return the reply and the scenario."""
    async with open_scenario(
        **{name: how.pop(name) for name in ("settings",) if name in how}
    ) as scenario:
        scenario.simulators["a"].script(script, path=path)
        reply = await scenario.ask(path, EMBED, **how)
        assert scenario.gateway.app.bodies.held == 0
    return reply, scenario


def is_document(body: bytes) -> bool:
    """Return whether a client could take the reply for a whole answer."""
    try:
        return isinstance(json.loads(body), dict)
    except ValueError:
        return False


@pytest.mark.parametrize("length", [-1, None])
@pytest.mark.parametrize(
    "size", [1000, PASS_ON_SIZE - 1, PASS_ON_SIZE, PASS_ON_SIZE + 1, 3 * PASS_ON_SIZE]
)
async def test_every_byte_arrives(autojump_clock: Clock, size: int, length: int | None) -> None:
    """An answer of any size arrives whole, with a length or without, and its usage is noted."""
    body = sized(size)
    reply, scenario = await asked(raw(body, length=length))

    assert (reply.status, reply.body == body, reply.is_complete) == (200, True, True)
    assert reply.headers.get("content-length") == (str(size) if size < 2 * PASS_ON_SIZE else None)
    (record,) = scenario.records
    assert (record.outcome, record.bytes_out, record.backend) == ("completed", size, "a")
    assert (record.prompt_tokens, record.completion_tokens, record.tokens_source) == (
        7,
        0,
        "reported",
    )


@pytest.mark.parametrize(
    ("arrived", "is_rescued"),
    [(PASS_ON_SIZE - 1, True), (PASS_ON_SIZE, True), (PASS_ON_SIZE + 1, False)],
)
async def test_up_to_a_mebibyte_it_fails_over(
    autojump_clock: Clock, arrived: int, *, is_rescued: bool
) -> None:
    """An answer that breaks while it is held comes from another backend; a later one is cut."""
    body = sized(3 * PASS_ON_SIZE)
    reply, scenario = await asked(raw(body[:arrived], length=len(body)))

    (record,) = scenario.records
    assert reply.is_complete is is_rescued
    assert is_document(reply.body) is is_rescued
    assert record.backend == ("b" if is_rescued else "a")
    assert record.reason == (None if is_rescued else "connection_broken")
    if not is_rescued:
        assert (record.outcome, reply.body) == ("upstream_failed", body[:arrived])


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (raw(sized(2 * PASS_ON_SIZE, b'],"error":"out of memory"}')), "error_in_stream"),
        (raw(sized(2 * PASS_ON_SIZE, b'],"error":{"message":"boom"},"x":1}')), "error_in_stream"),
        (raw(sized(2 * PASS_ON_SIZE, b'],"error":"%b"}' % (b"x" * 9000))), "error_in_stream"),
        (raw(sized(2 * PASS_ON_SIZE, b"],}")), "garbled_answer"),
        (raw(sized(2 * PASS_ON_SIZE, b"]}}")), "garbled_answer"),
        (raw(sized(2 * PASS_ON_SIZE) + b"\n{}"), "garbled_answer"),
        (raw(sized(2 * PASS_ON_SIZE, b"]"), length=None), "garbled_answer"),
        (raw(sized(2 * PASS_ON_SIZE)[:-1], length=None), "garbled_answer"),
        (raw(sized(2 * PASS_ON_SIZE)[: PASS_ON_SIZE + 70_000], length=None), "garbled_answer"),
        (raw(sized(2 * PASS_ON_SIZE) + b" " * 200_000), "frame_too_long"),
    ],
)
async def test_what_is_no_good_answer_is_cut_before_its_last_brace(
    autojump_clock: Clock, script: Script, reason: str
) -> None:
    """After an error, garbage or no end, the client has no document and no event in it."""
    reply, scenario = await asked(script)

    (record,) = scenario.records
    assert (record.outcome, record.reason) == ("upstream_failed", reason)
    assert (reply.status, reply.is_complete, is_document(reply.body)) == (200, False, False)
    assert reply.body in (script.raw or b"")
    assert record.bytes_out == len(reply.body)


@pytest.mark.parametrize(
    "body",
    [
        sized(2 * PASS_ON_SIZE, start=b'{"error":"no","embeddings":['),
        sized(2 * PASS_ON_SIZE, start=b'{"error":{"message":"no"},"embeddings":['),
        sized(2 * PASS_ON_SIZE, start=b'["embeddings",['),
        sized(2 * PASS_ON_SIZE, start=b'{"x":[', end=b'],"error":"late"}'),
        b'{"embeddings":' + b"[" * PASS_ON_SIZE,
        b"x" * 2 * PASS_ON_SIZE,
    ],
)
async def test_an_error_that_is_seen_in_time_fails_over(autojump_clock: Clock, body: bytes) -> None:
    """Nothing is passed on before a member of a good answer has begun."""
    reply, scenario = await asked(raw(body))

    assert (reply.status, reply.is_complete, scenario.records[0].backend) == (200, True, "b")


@pytest.mark.parametrize(
    ("end", "prompt"),
    [
        (b'],"prompt_eval_count":3,"prompt_eval_count":7}', 7),
        (b'],"x":{"prompt_eval_count":9,"error":"no"},"prompt_eval_count":7}', 7),
        (b'],"x":[{"prompt_eval_count":9}]}', None),
        (b'],"x":"\\"prompt_eval_count\\":9"}', None),
        (b'],"PROMPT_EVAL_COUNT":9}', None),
        (b'],"prompt_eval_count":%d}' % 10**30, None),
    ],
)
async def test_only_the_members_at_its_top_count(
    autojump_clock: Clock, end: bytes, prompt: int | None
) -> None:
    """They count as for a parser: the last of two, and none of an inner object."""
    for size in (500, 100_000, 2 * PASS_ON_SIZE):
        reply, scenario = await asked(raw(sized(size, end)))

        assert reply.is_complete
        assert scenario.records[0].prompt_tokens == prompt


@pytest.mark.parametrize(
    ("body", "tokens"),
    [
        (b'{"data":[%b],"usage":{"prompt_tokens":9},"usage":{"prompt_tokens":7}}', 7),
        (b'{"usage":{"prompt_tokens":7},"data":[%b]}', 7),
        (b'{"data":[{"usage":{"prompt_tokens":9}},%b],"error":null}', None),
    ],
)
async def test_openais_usage(autojump_clock: Clock, body: bytes, tokens: int | None) -> None:
    """Usage counts before or behind the data, the last of two, and never inside the data."""
    whole = body % (b'{"embedding":[0.5]},' * 60_000 + b"1")
    reply, scenario = await asked(raw(whole), "/v1/embeddings")

    assert (reply.body == whole, reply.is_complete) == (True, True)
    assert scenario.records[0].prompt_tokens == tokens


async def test_an_answer_whose_shape_shows_late_is_held_until_then(autojump_clock: Clock) -> None:
    """It may be an error, or no answer at all, until one of its own members comes."""
    body = sized(2 * PASS_ON_SIZE, b'],"error_count":0,"embeddings":[]}', b'{"pictures":[')
    reply, scenario = await asked(raw(body))

    assert (reply.status, reply.body == body) == (200, True)
    assert reply.headers["content-length"] == str(len(body))
    assert scenario.records[0].backend == "a"


async def test_strict_its_last_brace_waits_for_its_record(autojump_clock: Clock) -> None:
    """A long answer whose record cannot be written is cut before its end."""
    body = sized(3 * PASS_ON_SIZE)
    async with open_scenario(settings=STRICT) as scenario:
        scenario.simulators["a"].script(raw(body))

        async def fail(reply: Reply) -> None:
            if reply.body and scenario.gateway.admin.audit.writer.journal.path.exists():
                lose(scenario)

        reply = await scenario.ask("/api/embed", EMBED, watch=fail)
        find(scenario)
        await trio.sleep(2)
        [record] = journaled(scenario, is_strict=True)

    assert (reply.status, reply.is_complete, is_document(reply.body)) == (200, False, False)
    assert body.startswith(reply.body)
    assert (record["outcome"], record["reason"]) == ("refused", "audit_unavailable")


async def test_strict_its_record_is_there_before_its_last_brace(autojump_clock: Clock) -> None:
    """A client has a whole answer only once its record is written."""
    body, records = sized(3 * PASS_ON_SIZE), []
    async with open_scenario(settings=STRICT) as scenario:
        scenario.simulators["a"].script(raw(body))

        async def look(reply: Reply) -> None:
            records.append((reply.body.endswith(b"}"), len(journaled(scenario, is_strict=True))))

        await scenario.ask("/api/embed", EMBED, watch=look)

    assert records[0] == (False, 0)
    assert records[-1] == (True, 1)
    assert {count for is_whole, count in records if is_whole} == {1}


async def test_a_client_that_leaves_ends_the_upstream_request(autojump_clock: Clock) -> None:
    """This holds in the middle of a long answer too; the record counts the bytes sent."""
    async with open_scenario({"a": Simulator([Model("m1:latest")])}) as scenario:
        scenario.simulators["a"].script(raw(sized(3 * PASS_ON_SIZE)))

        async def slowly(_: Reply) -> None:
            await trio.sleep(1)

        reply = await scenario.ask("/api/embed", EMBED, watch=slowly, leave_at=10.5)

    (record,) = scenario.records
    assert (record.outcome, record.status, record.prompt_tokens) == ("client_gone", 200, None)
    assert 0 < len(reply.body) <= record.bytes_out < 3 * PASS_ON_SIZE


async def test_a_backend_that_stops_in_the_middle_is_left(autojump_clock: Clock) -> None:
    """After `race.idle_timeout` without a byte, however slowly the client reads."""
    settings: Mapping[str, str] = {"GATEWAY_RACE_IDLE_TIMEOUT": "7s"}
    model = Model("m1:latest", capabilities=("embedding",), vector_length=300_000)
    async with open_scenario({"a": Simulator([model])}, settings=settings) as scenario:
        scenario.simulators["a"].script(Script(hang_after=1))

        async def slowly(reply: Reply) -> None:
            await trio.sleep(8 if len(reply.body) < 40_000 else 0)

        reply = await scenario.ask("/api/embed", EMBED, watch=slowly)

    (record,) = scenario.records
    assert (record.outcome, record.reason) == ("timed_out", "idle_timeout")
    assert (reply.is_complete, is_document(reply.body)) == (False, False)
    assert len(reply.body) > PASS_ON_SIZE
