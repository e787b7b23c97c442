"""Work on the library that reports its progress: `pull`, `push` and `create`.

The answer is lines of NDJSON, the last of which is `success` or an error within the 200; if no
stream is wanted, it is the last line alone with its status. The work is done just before `success`
is sent.
"""

from __future__ import annotations

from collections.abc import Callable

import anyio
import attrs

from ollama_gateway.simulator.dialect import JSON, NDJSON
from ollama_gateway.simulator.exchange import Exchange
from ollama_gateway.simulator.generation import RunnerFailed
from ollama_gateway.simulator.gojson import dumps
from ollama_gateway.simulator.script import Script

SUCCESS = "success"
UNREACHABLE = "max retries exceeded: unexpected EOF"
Line = dict[str, object]


@attrs.frozen
class Failure:
    """An early end of the work; the status counts if nothing was sent yet."""

    message: str
    status: int = 500


@attrs.frozen
class Work:
    """The progress lines of some work, and its effect.

    Args:
        lines: without the last one, `success`.
        effect: the work itself, unless there is a failure.

    """

    lines: tuple[Line, ...] = ()
    effect: Callable[[], None] = lambda: None
    failure: Failure | None = None


def status(text: str) -> Line:
    """Make a line."""
    return {"status": text}


def moved(verb: str, digest: str, total: int, completed: int) -> Line:
    """Make a line about a blob in progress; zeros are left out."""
    line: Line = status(f"{verb} {digest[7:19]}") | {"digest": digest, "total": total}
    return line | ({"completed": completed} if completed else {})


async def report(exchange: Exchange, work: Work, *, is_streamed: bool) -> None:
    """Do the work and report it.

    Raises:
        RunnerFailed: it failed before a line was sent.

    """
    work = _scripted(work, exchange.script)
    if is_streamed:
        await _stream(exchange, work)
        return
    await anyio.sleep(exchange.script.pace * len(work.lines))
    if work.failure:
        body = dumps({"error": work.failure.message})
        await exchange.respond(work.failure.status, body, JSON)
        return
    work.effect()
    await exchange.respond(200, dumps(status(SUCCESS)), JSON)


def _scripted(work: Work, script: Script) -> Work:
    if script.error_after is None:
        return work
    failure = Failure(script.error or UNREACHABLE, script.status or 500)
    return attrs.evolve(work, lines=work.lines[: script.error_after], failure=failure)


async def _stream(exchange: Exchange, work: Work) -> None:
    if work.failure and not work.lines:
        raise RunnerFailed(work.failure.status, work.failure.message)
    exchange.start(200, NDJSON)
    for line in work.lines:
        await anyio.sleep(exchange.script.pace)
        await exchange.chunk(dumps(line) + b"\n")
    await anyio.sleep(exchange.script.pace)
    if work.failure is None:
        work.effect()
    last = {"error": work.failure.message} if work.failure else status(SUCCESS)
    await exchange.finish(dumps(last) + b"\n")
