"""The faults of one request, and the queue of such scripts.

The first request that matches a script consumes it. Without `path` a script matches inference
requests only (a poll of the listings must not consume it); to break a listing, name its path.

Chunks are counted as they are written: in a stream each record is one (for `/v1` each `data:`
event, `[DONE]` included), and a whole answer is one.
"""

from __future__ import annotations

import attrs


@attrs.frozen
class Script:
    """The faults; all are off by default, and the fields combine.

    Args:
        before: seconds of delay before anything else happens.
        status: answer with this status instead, before the first chunk, in the dialect's shape;
            with `error_after` it is the status of the runner's failure, if nothing was sent yet.
        is_busy: answer 503, as a server whose queue is full.
        error: its text; also the text of `error_after`.
        headers: extra response headers.
        pace: seconds before each progress line of a pull, a push or a creation.
        error_after: after so many tokens the runner fails, as the real one does in that dialect, or
            a pull after so many lines; 0, or a whole answer, gives a 500.
        length_after: after so many tokens the runner ends as if its context were full.
        cut_after: after so many chunks the connection is closed without a terminator. 0: before the
            head. A whole answer is cut in the middle of its body.
        reset: the cut is a TCP reset.
        hang_after: after so many chunks nothing more is sent until the client goes. 0: before the
            head. A whole answer hangs in the middle of its body.
        loops: the runner repeats its first word until Ollama ends the answer after 31 of them, as
            with `no_done`.
        no_done: the stream ends cleanly without its terminal marker.
        raw: exactly these bytes in place of a response, then a close.
        drip: with `raw`, seconds between single bytes.

    """

    before: float = attrs.field(default=0, kw_only=True)
    status: int | None = attrs.field(default=None, kw_only=True)
    is_busy: bool = attrs.field(default=False, kw_only=True)
    error: str = attrs.field(default="", kw_only=True)
    headers: tuple[tuple[str, str], ...] = attrs.field(default=(), kw_only=True)
    error_after: int | None = attrs.field(default=None, kw_only=True)
    pace: float = attrs.field(default=0, kw_only=True)
    length_after: int | None = attrs.field(default=None, kw_only=True)
    cut_after: int | None = attrs.field(default=None, kw_only=True)
    reset: bool = attrs.field(default=False, kw_only=True)
    hang_after: int | None = attrs.field(default=None, kw_only=True)
    loops: bool = attrs.field(default=False, kw_only=True)
    no_done: bool = attrs.field(default=False, kw_only=True)
    raw: bytes | None = attrs.field(default=None, kw_only=True)
    drip: float = attrs.field(default=0, kw_only=True)


NOTHING = Script()


@attrs.define(eq=False)
class _Entry:
    script: Script
    model: tuple[str, ...] | None
    path: str | None
    left: int | None

    def matches(self, path: str, model: tuple[str, ...] | None, *, inference: bool) -> bool:
        if self.path is None and not inference:
            return False
        return self.path in (None, path) and self.model in (None, model)


@attrs.define(eq=False)
class Scripts:
    """The queue, in the order in which the scripts were added."""

    _entries: list[_Entry] = attrs.field(factory=list)

    def add(
        self, script: Script, model: tuple[str, ...] | None, path: str | None, times: int | None
    ) -> None:
        """Queue a script for `times` requests (None: for ever)."""
        self._entries.append(_Entry(script, model, path, times))

    def __bool__(self) -> bool:
        return bool(self._entries)

    def clear(self) -> None:
        """Forget all queued scripts."""
        self._entries.clear()

    def take(self, path: str, model: tuple[str, ...] | None, *, inference: bool) -> Script:
        """Return the script for a request and count the use; `NOTHING` if none matches."""
        for entry in self._entries:
            if entry.matches(path, model, inference=inference):
                self._use(entry)
                return entry.script
        return NOTHING

    def _use(self, entry: _Entry) -> None:
        if entry.left is None:
            return
        entry.left -= 1
        if entry.left <= 0:
            self._entries.remove(entry)
