"""Logs: JSON lines for programs, text for people, and nothing a client could forge."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator

import pytest
import structlog
import trio.testing

from ollama_gateway import log
from ollama_gateway.ledger.log import log_row
from tests.story import story


@pytest.fixture
def restored() -> Iterator[None]:
    """Leave no configuration behind."""
    yield
    structlog.reset_defaults()


@pytest.mark.usefixtures("restored")
def test_a_line_is_one_line_whatever_is_in_it() -> None:
    """Line ends and escape codes in values are escaped, so no client can write lines of its own."""
    for style in ("json", "text"):
        out = io.StringIO()
        log.configure("info", style, out)
        log.get_logger("x").info("event", value='a\nb\x1b[31m"')

        assert out.getvalue().count("\n") == 1
        assert "\x1b" not in out.getvalue()


@pytest.mark.usefixtures("restored")
def test_levels_are_kept() -> None:
    """What is below the level is not written."""
    out = io.StringIO()
    log.configure("warning", "json", out)
    log.get_logger("x").info("quiet")
    log.get_logger("x").warning("loud")

    assert [json.loads(line)["event"] for line in out.getvalue().splitlines()] == ["loud"]


@pytest.mark.usefixtures("restored")
async def test_an_exchange_is_one_line_with_the_rows_fields(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Who, what, which backend, attempts, outcome and reason, times, tokens; no words, no key."""
    out = io.StringIO()
    async with story() as told:
        log.configure("info", "json", out)
        await told.ask()
        await told.ask(body={"model": "nope", "messages": [{"role": "user", "content": "psst"}]})
        for row in told.rows:
            log_row(row)

    served, refused = [json.loads(line) for line in out.getvalue().splitlines()]
    assert (served["outcome"], served["backend"], served["model"]) == (
        "completed",
        "a",
        "m1:latest",
    )
    assert (served["prompt_tokens"], served["completion_tokens"]) == (11, 2)
    assert served["attempts"][0]["backend"] == "a"
    assert (refused["outcome"], refused["reason"]) == ("refused", "unknown_model")
    assert refused["status"] == 403
    assert not {told.key, "psst", "Hel"} & set(out.getvalue().replace('"', " ").split())
