"""The client of the benchmarks: `python -m tests.bench.load JOB` prints what it saw, as JSON.

One epoll loop notes when each piece of bytes arrived; all parsing comes after the last of them, so
that the client takes as little as it can from the machine that it measures on. Its own CPU time
is told too: a client near 100% of a core is what was measured, not the proxy.
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
"""Seconds without any byte, after which the rest has failed."""
END: Final = b"\r\n0\r\n\r\n"
SUCCESS: Final = b"HTTP/1.1 200 "
LAST: Final = (b'"done":true', b"[DONE]")


@attrs.frozen
class Job:
    """What to do."""

    port: int
    request: str
    """Head and body, in latin-1."""
    count: int
    """Requests, all in all."""
    at_once: int
    """Connections; each is used again as long as the server keeps it."""
    start_at: float
    """On the monotonic clock."""
    hold: float = 0.0
    """Seconds to stay without reading anything; 0 reads all."""


@attrs.frozen
class Exchange:
    """One request, and what came back; times are seconds of the monotonic clock."""

    began: float
    """Before the connection was made, where it was a new one."""
    first: float
    """When the first chunk of the body was whole."""
    ended: float
    chunks: int
    longest_gap: float
    reads: int
    """Pieces in which it arrived: fewer than chunks where a proxy joined some."""
    is_whole: bool
    """200, well framed, and ended by its own marker."""


@attrs.define(eq=False)
class Connection:
    """One connection and what arrives on it, with the times."""

    sock: socket.socket
    began: float
    is_new: bool = True
    pieces: list[bytes] = attrs.field(factory=list)
    times: list[float] = attrs.field(factory=list)
    length: int | None = None
    """Bytes of the whole response, where its head says so."""
    size: int = 0

    def receive(self, data: bytes) -> bool:
        """Note bytes; whether the response is whole."""
        self.pieces.append(data)
        self.times.append(time.monotonic())
        if not self.size:
            self.length = _length(data)
        self.size += len(data)
        if self.length is not None:
            return self.size >= self.length
        tail = data if len(data) >= len(END) else b"".join(self.pieces[-len(END) :])
        return tail.endswith(END)


def _length(data: bytes) -> int | None:
    """Bytes of a response whose head is in its first piece, and tells its length."""
    head, separator, _ = data.partition(b"\r\n\r\n")
    found = head.lower().partition(b"\r\ncontent-length:")[2].partition(b"\r\n")[0]
    return len(head) + len(separator) + int(found) if found else None


@attrs.define(eq=False)
class Client:
    """The loop."""

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
        """What came of it."""
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
        """Note the response; ask again where more is to be asked."""
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
        """The connection is over; one that was kept and closed unused is made anew."""
        del self._open[connection.sock.fileno()]
        connection.sock.close()
        if connection.pieces or connection.is_new:
            self._note(connection)
        else:
            self._begun -= 1
        if self._begun < self.job.count:
            self._begin()

    def _note(self, connection: Connection) -> None:
        self._seen.append((connection.began, connection.pieces, connection.times))


def read(began: float, pieces: list[bytes], times: list[float]) -> Exchange:
    """Read a response from the pieces in which it came, and the times of these."""
    data, ended = b"".join(pieces), times[-1] if times else time.monotonic()
    ends = list(itertools.accumulate(map(len, pieces)))
    places, is_whole = _chunks(data)
    arrived = [times[bisect.bisect_left(ends, place)] for place in places]
    gap = max((b - a for a, b in itertools.pairwise(arrived)), default=0.0)
    is_whole = is_whole and data.startswith(SUCCESS)
    first = arrived[0] if arrived else ended
    return Exchange(began, first, ended, len(places), gap, len(pieces), is_whole)


def _chunks(data: bytes) -> tuple[list[int], bool]:
    """Where the lines of a body end, empty ones left out; whether its end is there."""
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
    """Do the job that the argument is, and print what came of it."""
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
