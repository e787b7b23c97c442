"""A native stream that Ollama ends without its last line, as when a model repeats itself."""

from __future__ import annotations

import pytest
import trio.testing

from ollama_gateway.simulator import Script
from tests.support.scenario import CHAT, open_scenario

Clock = trio.testing.MockClock
LINE = (
    b'{"model":"m1","created_at":"x","message":{"role":"assistant","content":"a"},"done":false}\n'
)
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/x-ndjson\r\n"


def chunked(*chunks: bytes, is_ended: bool = True) -> bytes:
    """An answer of these chunks."""
    body = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)
    return HEAD + b"transfer-encoding: chunked\r\n\r\n" + body + b"0\r\n\r\n" * is_ended


@pytest.mark.parametrize(
    "script",
    [
        Script(no_done=True),
        Script(loops=True),
        Script(raw=chunked(LINE, LINE)),
        Script(raw=HEAD + b"content-length: %d\r\n\r\n" % len(LINE) + LINE),
    ],
)
async def test_it_ends_for_the_client_as_it_did_for_ollama(
    autojump_clock: Clock, script: Script
) -> None:
    """The client gets a proper end, and the record has the reason."""
    async with open_scenario() as scenario:
        scenario.simulators["a"].script(script)
        reply = await scenario.ask()

    assert (reply.status, reply.is_complete) == (200, True)
    assert all("error" not in line for line in reply.lines)
    [record] = scenario.records
    assert (record.outcome, record.reason) == ("completed", "no_terminal_marker")
    assert record.completion_tokens == len(reply.lines)
    assert record.tokens_source == "counted"


@pytest.mark.parametrize(
    "raw",
    [
        chunked(LINE, LINE[:20]),
        chunked(LINE, is_ended=False),
        HEAD + b"content-length: 500\r\n\r\n" + LINE,
        HEAD + b"\r\n" + LINE,
    ],
    ids=["in a line", "in the body", "before its length", "without a length"],
)
async def test_a_cut_stays_an_error(autojump_clock: Clock, raw: bytes) -> None:
    """A stream that was not ended properly ends in an error."""
    async with open_scenario() as scenario:
        scenario.simulators["a"].script(Script(raw=raw))
        reply = await scenario.ask()

    assert (reply.status, reply.is_complete) == (200, False)
    assert list(reply.lines[-1]) == ["error"]
    assert scenario.records[0].outcome == "upstream_failed"


async def test_other_dialects_have_a_marker(autojump_clock: Clock) -> None:
    """A missing `[DONE]` is an error."""
    async with open_scenario() as scenario:
        scenario.simulators["a"].script(Script(no_done=True))
        reply = await scenario.ask("/v1/chat/completions", {**CHAT, "stream": True})

    assert not reply.is_complete
    assert scenario.records[0].reason == "no_terminal_marker"
