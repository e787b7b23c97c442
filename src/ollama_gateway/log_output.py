"""The output of logs: text on a terminal, JSON otherwise, always on stderr.

The caller formats a line, and a thread writes it (`LineWriter`), since a stream can block or fail.
Values are escaped, by JSON or, in text, by `printable`, so that no value can forge a line or
control a terminal.
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
from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, BinaryIO, Final, TextIO, cast

import structlog
from structlog.typing import EventDict, ExcInfo, Processor, WrappedLogger

from ollama_gateway.log import LEVELS
from ollama_gateway.printable import printable

Summary = Callable[[EventDict], str]
"""Makes the line of an event; the values are escaped already."""

_JSON: Final = json.JSONEncoder(default=repr)
"""Made once; `structlog.processors.JSONRenderer` makes one for each line."""
MAX_LINES_WAITING: Final = 10_000
GATHER_SECONDS: Final = 0.005
"""Seconds for which the first line waits for others."""


class LineWriter:
    """Writes lines in a thread of its own, so that no stream can delay or end the gateway.

    An unread pipe blocks; a full disk or a closed pipe raises. A line is lost if the queue is full
    or the line cannot be written; the gateway goes on. Lines that wait together are written
    together, up to the size that a pipe accepts at once (`PIPE_BUF`, pipe(7)): several processes
    may share a pipe, and their lines stay whole.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = _unbuffered(stream)
        self._lines: deque[str] = deque()
        self._stirred = threading.Event()
        threading.Thread(target=self._run, name="log", daemon=True).start()

    @property
    def lines_waiting(self) -> int:
        """The number of lines not written yet."""
        return len(self._lines)

    def write(self, text: str) -> None:
        """Queue a line; never blocks and never raises."""
        if len(self._lines) < MAX_LINES_WAITING:
            self._lines.append(text)
            if not self._stirred.is_set():
                self._stirred.set()

    def flush(self) -> None:
        """Do nothing: the thread flushes after each write."""

    def drain(self, seconds: float) -> None:
        """Wait until all queued lines are written, at most `seconds`."""
        deadline = time.monotonic() + seconds
        while self._lines and time.monotonic() < deadline:
            time.sleep(0.001)

    def _run(self) -> None:
        while True:
            self._stirred.wait()
            time.sleep(
                GATHER_SECONDS
            )  # waking the thread for each line took 5 % of a request's time
            self._stirred.clear()
            while self._lines:
                lines = self._next_lines()
                with contextlib.suppress(OSError, ValueError):  # ValueError: the stream was closed
                    self._stream.write("".join(lines))
                    self._stream.flush()
                for _ in lines:
                    self._lines.popleft()

    def _next_lines(self) -> list[str]:
        """Return the lines of the next write: at least one, and as many as a pipe takes whole."""
        lines: list[str] = []
        left = select.PIPE_BUF
        for index in range(len(self._lines)):  # other threads append meanwhile
            line = self._lines[index]
            left -= len(line.encode("utf-8", "backslashreplace"))
            if lines and left < 0:
                break
            lines.append(line)
        return lines


def _unbuffered(stream: TextIO) -> TextIO:
    """Reopen the file without Python's buffer: bytes left in it would make the exit code 120."""
    try:
        raw = io.FileIO(stream.fileno(), "w", closefd=False)
    except OSError:  # a stream in memory has no file
        return stream
    return io.TextIOWrapper(
        cast("BinaryIO", raw), "utf-8", errors="backslashreplace", write_through=True
    )


def left_out(_event: EventDict) -> str:
    """Summarize an event as no line at all."""
    raise structlog.DropEvent


def configure(
    level: str = "info",
    style: str = "auto",
    stream: TextIO | None = None,
    *,
    process: int | None = None,
    writer: LineWriter | None = None,
    summaries: Mapping[str, Summary] = MappingProxyType({}),
) -> LineWriter:
    """Set up logging for the process; return its writer, which the caller drains at the end.

    Args:
        level: one of `LEVELS`.
        style: `"text"`, `"json"`, or `"auto"`: text when the stream is a terminal.
        stream: receives the lines; by default stderr.
        process: this process's number, of several; every line has it.
        writer: goes on writing, if logging was set up before.
        summaries: by event, its whole line as text; JSON always has all fields.

    """
    out = stream or sys.stderr
    writer = writer or LineWriter(out)
    as_text = style == "text" or (style == "auto" and out.isatty())
    console = structlog.dev.ConsoleRenderer(
        colors=out.isatty(),
        # the default prints local variables, which contain keys and prompts
        exception_formatter=_plain_trace,
    )
    renderer: list[Processor] = (
        [_escape_unprintable, partial(_summarized_or, console, summaries)]
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
    _configure_library_logs(writer, renderer)
    return writer


def _configure_library_logs(writer: LineWriter, renderer: list[Processor]) -> None:
    """Send the logs of libraries through the same format and thread."""
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
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)


class _Quoted:
    """A text that is quoted already; the renderer prints the `repr` of all but strings."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


def _escape_unprintable(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Escape unprintable characters; the renderer only quotes values with blanks."""
    for name, value in event.items():
        if isinstance(value, str) and (safe := printable(value)) != value:
            event[name] = safe if name == "event" else _Quoted(safe)
    return event


def _summarized_or(
    console: Processor,
    summaries: Mapping[str, Summary],
    logger: WrappedLogger,
    method: str,
    event: EventDict,
) -> Any:
    summary = summaries.get(event["event"])
    return console(logger, method, event) if summary is None else summary(event)


def _plain_trace(out: TextIO, exc_info: ExcInfo) -> None:
    """Print a trace, escaped, since its errors may quote foreign text."""
    trace = io.StringIO()
    structlog.dev.plain_traceback(trace, exc_info)
    out.write("\n".join(map(printable, trace.getvalue().split("\n"))))


def _as_json(_logger: WrappedLogger, _method: str, event: EventDict) -> str:
    return _JSON.encode(event)


def _add_process(
    process: int | None, _logger: WrappedLogger, _method: str, event: EventDict
) -> EventDict:
    return event if process is None else {"process": process, **event}
