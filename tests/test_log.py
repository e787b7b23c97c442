"""Logs: JSON lines for programs, text for people, and no line that a client could forge."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import select
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
import trio.testing

from ollama_gateway import log_output
from ollama_gateway.ledger.log import log_record
from ollama_gateway.log import get_logger, get_unfiltered_logger
from tests.support.patience import PATIENCE
from tests.support.scenario import open_scenario

KEY = "the-key"


@pytest.fixture
def restored() -> Iterator[None]:
    """Restore the configuration of logging."""
    yield
    structlog.reset_defaults()


@pytest.mark.usefixtures("restored")
def test_a_line_is_one_line_whatever_is_in_it() -> None:
    """Line ends and escape codes in values are escaped, so no client can write lines of its own."""
    for style in ("json", "text"):
        out = io.StringIO()
        writer = log_output.configure("info", style, out)
        get_logger("x").info("event", value='a\nb\x1b[31m"', word="\x1b[31m\u202e\x9b2J")
        writer.drain(PATIENCE)

        assert out.getvalue().count("\n") == 1
        assert out.getvalue().strip().isprintable()


@pytest.mark.usefixtures("restored")
def test_an_error_and_a_library_command_no_terminal() -> None:
    """Errors and library logs that quote foreign text are escaped; a trace keeps its lines."""

    def fail() -> None:
        raise RuntimeError("\x1b[2J\u202e\x85said a peer")

    out = io.StringIO()
    writer = log_output.configure("info", "text", out)
    try:
        fail()
    except RuntimeError:
        get_logger("x").exception("\x1b[31mfailed")
    writer.drain(PATIENCE)

    lines = out.getvalue().split("\n")
    assert all(line.isprintable() for line in lines)
    assert "said a peer" in lines[-2]


@pytest.mark.usefixtures("restored")
def test_levels_are_kept() -> None:
    """Events below the level are not written."""
    out = io.StringIO()
    writer = log_output.configure("warning", "json", out)
    get_logger("x").info("quiet")
    get_logger("x").warning("loud")
    writer.drain(PATIENCE)

    assert [json.loads(line)["event"] for line in out.getvalue().splitlines()] == ["loud"]


@pytest.mark.usefixtures("restored")
@pytest.mark.parametrize("style", ["json", "text"])
def test_a_trace_shows_no_values(style: str) -> None:
    """A trace shows lines of code only, as local variables contain keys and prompts."""

    def fail(key: str) -> None:
        raise RuntimeError("broken " + str(len(key)))

    out = io.StringIO()
    writer = log_output.configure("info", style, out)
    try:
        fail(KEY)
    except RuntimeError:
        get_logger("x").exception("failed")
    writer.drain(PATIENCE)

    assert "broken 7" in out.getvalue()
    assert "the-key" not in out.getvalue()


@pytest.mark.usefixtures("restored")
def test_libraries_write_the_same_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """A warning of the standard library's logging is a JSON line too."""
    out = io.StringIO()
    monkeypatch.setattr(logging, "root", logging.RootLogger(logging.WARNING))
    writer = log_output.configure("info", "json", out)
    logging.root.info("quiet")
    logging.root.warning("a\nb %s", "c")
    writer.drain(PATIENCE)

    (line,) = out.getvalue().splitlines()
    scenario = json.loads(line)
    assert (scenario["event"], scenario["level"], scenario["logger"]) == (
        "a\nb c",
        "warning",
        "root",
    )


@pytest.mark.usefixtures("restored")
def test_a_log_that_cannot_be_written_ends_nothing() -> None:
    """If the disk is full, lines are lost, and the caller goes on."""
    full = Path("/dev/full").open("w")  # noqa: SIM115 - closing it raises, as writing does
    writer = log_output.LineWriter(full)
    for _ in range(10):
        writer.write("x" * 100_000)
    writer.drain(PATIENCE)
    with contextlib.suppress(OSError):
        full.close()


def test_a_stream_that_blocks_holds_up_nobody() -> None:
    """An unread pipe takes 64 KiB; further lines are queued without a wait."""
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb", buffering=0) as pipe, os.fdopen(writing, "w") as stream:
        writer = log_output.LineWriter(stream)
        for _ in range(2 * log_output.MAX_LINES_WAITING):
            writer.write("x" * 100 + "\n")
        waiting = writer.lines_waiting
        received = 0
        os.set_blocking(reading, False)  # a line is counted until it is written
        while writer.lines_waiting:  # let the thread come to its end
            received += len(pipe.read(65536) or b"")
        writer.drain(PATIENCE)

    assert waiting > log_output.MAX_LINES_WAITING // 2
    assert received > 0


class Writes(io.StringIO):
    """A stream that records each write."""

    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[str] = []

    def write(self, text: str) -> int:
        """Record the write."""
        self.pieces.append(text)
        return len(text)


def test_lines_that_wait_are_written_together_and_stay_whole() -> None:
    """A write has as many lines as a pipe takes whole, in bytes; a longer line goes alone."""
    stream = Writes()
    writer = log_output.LineWriter(stream)
    lines = [f"{number} {'é' * 500}\n" for number in range(100)]
    lines.insert(50, "x" * 10_000 + "\n")
    for line in lines:
        writer.write(line)
    writer.drain(PATIENCE)

    assert "".join(stream.pieces) == "".join(lines)
    assert len(stream.pieces) < len(lines)
    assert all(piece.endswith("\n") for piece in stream.pieces)
    assert [p for p in stream.pieces if len(p.encode()) > select.PIPE_BUF] == [lines[50]]


@pytest.mark.usefixtures("restored")
async def test_an_exchange_is_one_line_with_the_records_fields(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """The line has the fields of the audit record, and no words and no key."""
    out = io.StringIO()
    async with open_scenario() as scenario:
        writer = log_output.configure("info", "json", out)
        await scenario.ask()
        await scenario.ask(
            body={"model": "nope", "messages": [{"role": "user", "content": "psst"}]}
        )
        for record in scenario.records:
            log_record(record)
    writer.drain(PATIENCE)

    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    served, refused = [line for line in lines if line["event"] == "exchange"]
    assert (served["outcome"], served["backend"], served["model"]) == (
        "completed",
        "a",
        "m1:latest",
    )
    assert (served["prompt_tokens"], served["completion_tokens"]) == (11, 2)
    assert served["attempts"][0]["backend"] == "a"
    assert (refused["outcome"], refused["reason"]) == ("refused", "unknown_model")
    assert refused["status"] == 403
    assert not {scenario.key, "psst", "Hel"} & set(out.getvalue().replace('"', " ").split())


@pytest.mark.usefixtures("restored")
def test_proofs_are_written_at_every_level() -> None:
    """A line of an unfiltered logger survives any level, with its own."""
    out = io.StringIO()
    writer = log_output.configure("error", "json", out)
    get_unfiltered_logger("audit").info("audit head", rows=3)
    get_logger("audit").warning("quiet")
    writer.drain(PATIENCE)

    (line,) = out.getvalue().splitlines()
    head = json.loads(line)
    assert (head["event"], head["level"], head["rows"]) == ("audit head", "info", 3)
