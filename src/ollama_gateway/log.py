"""Logs: one line an event, readable on a terminal, JSON lines otherwise, always to stderr.

A line is formatted where it is made and written by a thread (`LineWriter`), since a stream can
block or fail. Values are escaped, by JSON or for people by `printable`, so nobody's text can forge
a line or command a terminal. No prompt,
answer or key is ever handed to a logger; that is the callers' rule, kept by tests.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import select
import sys
import threading
import time
from collections import deque
from functools import partial
from typing import BinaryIO, Final, TextIO, cast

import structlog
from structlog.typing import EventDict, ExcInfo, FilteringBoundLogger, Processor, WrappedLogger

from ollama_gateway.printable import printable

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}


_JSON: Final = json.JSONEncoder(default=repr)
"""Made once: `structlog.processors.JSONRenderer` makes one for each line."""
MAX_LINES_WAITING: Final = 10_000
GATHER_SECONDS: Final = 0.005
"""Seconds that the first of several lines waits for the others."""


def get_logger(name: str) -> FilteringBoundLogger:
    """A logger whose lines carry `component=name`; cheap, to be made once a module."""
    return cast("FilteringBoundLogger", structlog.get_logger(component=name))


class LineWriter:
    """Writes lines from a thread of its own, so that no stream can hold up or end the gateway.

    A pipe that nobody reads blocks, a full disk and a closed pipe raise: lines that find the queue
    full or cannot be written are lost, and what was being logged goes on. Lines that wait together
    are written together, as far as a pipe takes them in one piece (`PIPE_BUF`, pipe(7)): several
    processes may share one, and their lines stay whole.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = _unbuffered(stream)
        self._lines: deque[str] = deque()
        self._stirred = threading.Event()
        threading.Thread(target=self._run, name="log", daemon=True).start()

    @property
    def lines_waiting(self) -> int:
        """How many lines are not written yet."""
        return len(self._lines)

    def write(self, text: str) -> None:
        """Queue a line; never blocks, never raises."""
        if len(self._lines) < MAX_LINES_WAITING:
            self._lines.append(text)
            if not self._stirred.is_set():
                self._stirred.set()

    def flush(self) -> None:
        """Nothing to do: the thread flushes after each write."""

    def drain(self, seconds: float) -> None:
        """Wait until what is queued is written, at most so long."""
        deadline = time.monotonic() + seconds
        while self._lines and time.monotonic() < deadline:
            time.sleep(0.001)

    def _run(self) -> None:
        while True:
            self._stirred.wait()
            time.sleep(
                GATHER_SECONDS
            )  # to wake a thread for each line was a twentieth of a request's time
            self._stirred.clear()
            while self._lines:
                lines = self._next_lines()
                with contextlib.suppress(OSError, ValueError):  # ValueError: the stream was closed
                    self._stream.write("".join(lines))
                    self._stream.flush()
                for _ in lines:
                    self._lines.popleft()

    def _next_lines(self) -> list[str]:
        """Those of the next write: one at least, and as many as a pipe takes whole."""
        lines: list[str] = []
        left = select.PIPE_BUF
        for place in range(len(self._lines)):  # by places, as others append meanwhile
            line = self._lines[place]
            left -= len(line.encode("utf-8", "backslashreplace"))
            if lines and left < 0:
                break
            lines.append(line)
        return lines


def _unbuffered(stream: TextIO) -> TextIO:
    """The same file without a buffer of Python: what stays in one makes the exit code 120."""
    try:
        raw = io.FileIO(stream.fileno(), "w", closefd=False)
    except OSError:  # a stream in memory has no file
        return stream
    return io.TextIOWrapper(
        cast("BinaryIO", raw), "utf-8", errors="backslashreplace", write_through=True
    )


def configure(
    level: str = "info",
    style: str = "auto",
    stream: TextIO | None = None,
    *,
    process: int | None = None,
) -> LineWriter:
    """Set up logging for the process; returns its writer, to be drained at the end.

    Args:
        level: one of `LEVELS`.
        style: `"text"`, `"json"`, or `"auto"`: text when the stream is a terminal.
        stream: where lines go; stderr where not given.
        process: which of several processes this is; every line says so.

    """
    out = stream or sys.stderr
    writer = LineWriter(out)
    as_text = style == "text" or (style == "auto" and out.isatty())
    renderer: list[Processor] = (
        [
            _made_printable,
            structlog.dev.ConsoleRenderer(
                colors=out.isatty(),
                # the default prints local variables, and those hold keys and prompts
                exception_formatter=_plain_trace,
            ),
        ]
        if as_text
        else [structlog.processors.format_exc_info, _as_json]
    )
    lines = structlog.WriteLogger(cast("TextIO", writer))
    structlog.configure(
        processors=[
            partial(_add_process, process),
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=lambda *_: lines,
        cache_logger_on_first_use=False,
    )
    _take_over_the_libraries(writer, renderer)
    return writer


def _take_over_the_libraries(writer: LineWriter, renderer: list[Processor]) -> None:
    """What libraries log looks as ours does, and is written by the same thread."""
    handler = logging.StreamHandler(cast("TextIO", writer))
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[
                structlog.stdlib.add_logger_name,
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.add_log_level,
                structlog.processors.TimeStamper(fmt="iso", utc=True),
                *renderer,
            ]
        )
    )
    logging.basicConfig(level=logging.WARNING, handlers=[handler])


class _Quoted:
    """A text that is quoted already: the renderer shows the `repr` of what is no string."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


def _made_printable(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Escape what the renderer, which quotes for blanks alone, would print as it is."""
    for name, value in event.items():
        if isinstance(value, str) and (safe := printable(value)) != value:
            event[name] = safe if name == "event" else _Quoted(safe)
    return event


def _plain_trace(out: TextIO, exc_info: ExcInfo) -> None:
    """A trace, whose errors may quote anybody."""
    trace = io.StringIO()
    structlog.dev.plain_traceback(trace, exc_info)
    out.write("\n".join(map(printable, trace.getvalue().split("\n"))))


def _as_json(_logger: WrappedLogger, _method: str, event: EventDict) -> str:
    return _JSON.encode(event)


def _add_process(
    process: int | None, _logger: WrappedLogger, _method: str, event: EventDict
) -> EventDict:
    return event if process is None else {"process": process, **event}
