"""The client of the benchmarks: `python -m tests.bench.load JOB` prints its exchanges, as JSON.

One epoll loop notes when each part of the bytes arrived and parses them after the last, so that the
client takes little CPU from the machine that it measures on. It also prints its own CPU time: if
that is near 100% of a core, the figures are those of the client, not of the proxy.
"""

from __future__ import annotations

import bisect
import itertools
import json
import os
import select
import socket
import sys
import time
from typing import Any, Final

import attrs

PATIENCE: Final = 60.0
"""Seconds without any byte after which the remaining requests have failed."""
END: Final = b"\r\n0\r\n\r\n"
SUCCESS: Final = b"HTTP/1.1 200 "
LAST: Final = (b'"done":true', b"[DONE]")


@attrs.frozen
class Job:
    """The work of one client."""

    port: int
    request: str
    """Head and body, in latin-1."""
    count: int
    """Number of requests in total."""
    at_once: int
    """Connections; each is reused as long as the server keeps it."""
    start_at: float
    """On the monotonic clock."""
    hold: float = 0.0
    """Seconds to stay without reading anything; 0 reads all."""


@attrs.frozen
class Exchange:
    """One request and its response; times are seconds of the monotonic clock."""

    began: float
    """Before the connection was made, if it was a new one."""
    first: float
    """When the first chunk of the body was complete."""
    ended: float
    chunks: int
    longest_gap: float
    reads: int
    """Reads in which it arrived: fewer than chunks if a proxy joined some."""
    is_whole: bool
    """200, well framed, and ended by its own marker."""


@attrs.define(eq=False)
class Connection:
    """One connection and the bytes that arrive on it, with their times."""

    sock: socket.socket
    began: float
    is_new: bool = True
    parts: list[bytes] = attrs.field(factory=list)
    times: list[float] = attrs.field(factory=list)
    length: int | None = None
    """Bytes of the whole response, if its head says so."""
    size: int = 0

    def receive(self, data: bytes) -> bool:
        """Note bytes; return whether the response is complete."""
        self.parts.append(data)
        self.times.append(time.monotonic())
        if not self.size:
            self.length = _length(data)
        self.size += len(data)
        if self.length is not None:
            return self.size >= self.length
        tail = data if len(data) >= len(END) else b"".join(self.parts[-len(END) :])
        return tail.endswith(END)


def _length(data: bytes) -> int | None:
    """Return the bytes of a response, if its head is in the first read and gives its length."""
    head, separator, _ = data.partition(b"\r\n\r\n")
    found = head.lower().partition(b"\r\ncontent-length:")[2].partition(b"\r\n")[0]
    return len(head) + len(separator) + int(found) if found else None


@attrs.define(eq=False)
class Client:
    """The loop of the client."""

    job: Job
    _poll: select.epoll = attrs.field(factory=select.epoll)
    _open: dict[int, Connection] = attrs.field(factory=dict)
    _begun: int = 0
    _seen: list[tuple[float, list[bytes], list[float]]] = attrs.field(factory=list)

    def run(self) -> None:
        """Do the job."""
        for _ in range(self.job.at_once):
            self._begin()
        if self.job.hold:
            self._stay()
            return
        while self._open:
            happened = self._poll.poll(PATIENCE)
            if not happened:
                break
            for fd, events in happened:
                self._happened(self._open[fd], events)
        for connection in list(self._open.values()):
            self._end(connection)

    def exchanges(self) -> list[Exchange]:
        """Return the exchanges."""
        return [read(*seen) for seen in self._seen]

    def _begin(self) -> None:
        began = time.monotonic()
        sock = socket.socket()
        sock.settimeout(0)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.job.hold:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.connect_ex(("127.0.0.1", self.job.port))
        self._open[sock.fileno()] = Connection(sock, began)
        self._poll.register(sock, select.EPOLLOUT)
        self._begun += 1

    def _stay(self) -> None:
        deadline = time.monotonic() + self.job.hold
        while (left := deadline - time.monotonic()) > 0:
            for fd, events in self._poll.poll(left):
                if events & select.EPOLLOUT:
                    self._ask(self._open[fd])
                self._poll.unregister(fd)

    def _happened(self, connection: Connection, events: int) -> None:
        try:
            if events & select.EPOLLOUT:
                self._ask(connection)
                self._poll.modify(connection.sock, select.EPOLLIN)
            elif data := connection.sock.recv(1 << 18):
                if connection.receive(data):
                    self._whole(connection)
            else:
                self._end(connection)
        except OSError:
            self._end(connection)

    def _ask(self, connection: Connection) -> None:
        connection.sock.send(self.job.request.encode("latin-1"))

    def _whole(self, connection: Connection) -> None:
        """Note the response; send the next request, if any."""
        if self._begun == self.job.count:
            self._end(connection)
            return
        self._note(connection)
        self._begun += 1
        again = Connection(connection.sock, time.monotonic(), is_new=False)
        self._open[connection.sock.fileno()] = again
        try:
            self._ask(again)
        except OSError:
            self._end(again)

    def _end(self, connection: Connection) -> None:
        """Handle the end of a connection; replace one that was kept and closed unused."""
        del self._open[connection.sock.fileno()]
        connection.sock.close()
        if connection.parts or connection.is_new:
            self._note(connection)
        else:
            self._begun -= 1
        if self._begun < self.job.count:
            self._begin()

    def _note(self, connection: Connection) -> None:
        self._seen.append((connection.began, connection.parts, connection.times))


def read(began: float, parts: list[bytes], times: list[float]) -> Exchange:
    """Parse a response from the parts in which it came, and their times."""
    data, ended = b"".join(parts), times[-1] if times else time.monotonic()
    ends = list(itertools.accumulate(map(len, parts)))
    places, is_whole = _chunks(data)
    arrived = [times[bisect.bisect_left(ends, place)] for place in places]
    gap = max((b - a for a, b in itertools.pairwise(arrived)), default=0.0)
    is_whole = is_whole and data.startswith(SUCCESS)
    first = arrived[0] if arrived else ended
    return Exchange(began, first, ended, len(places), gap, len(parts), is_whole)


def _chunks(data: bytes) -> tuple[list[int], bool]:
    """Return where the lines of a body end, without empty ones, and whether its end is there."""
    head, separator, body = data.partition(b"\r\n\r\n")
    if b"\r\ntransfer-encoding: chunked" not in head.lower():
        return ([len(data)] if body else []), len(data) == _length(data)
    places: list[int] = []
    last, place = b"", len(head) + len(separator)
    while (size_end := data.find(b"\r\n", place)) > 0:
        size, start = int(data[place:size_end], 16), size_end + 2
        if not size:
            return places, any(mark in last for mark in LAST)
        line_start = start
        for line in data[start : start + size].splitlines(keepends=True):
            line_start += len(line)
            if line.strip():
                last = line
                places.append(line_start)
        place = start + size + 2
    return places, False


def main() -> None:
    """Do the job in the argument, and print the result."""
    job = Job(**json.loads(sys.argv[1]))
    time.sleep(max(job.start_at - time.monotonic(), 0.0))
    before, began = os.times(), time.monotonic()
    client = Client(job)
    client.run()
    after, ended = os.times(), time.monotonic()
    found: dict[str, Any] = {
        "cpu": after.user + after.system - before.user - before.system,
        "wall": ended - began,
        "exchanges": [attrs.astuple(exchange) for exchange in client.exchanges()],
    }
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
