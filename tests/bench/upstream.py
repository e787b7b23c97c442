"""The backend of the benchmarks: an Ollama of fixed answers, much cheaper than the subjects.

`python -m tests.bench.upstream PORT` runs one epoll loop over sockets; bytes are made beforehand.
It streams chunks on a fixed beat from the request's arrival: a chunk that a slow reader delayed
does not delay later ones. The model's name is the beat, `pace:20` is a chunk every 20 ms, and the
bound of the answer in the request (`num_predict`, `max_tokens`) is the number of chunks. `pace:0`
writes as fast as it is read. A request that is not streamed is answered at once.
"""

from __future__ import annotations

import heapq
import itertools
import json
import select
import socket
import sys
import time
from typing import Any, Final

import attrs

DATE: Final = "2026-01-01T00:00:00.000000Z"
PACES: Final = (0, 1, 20, 1000)
"""Milliseconds between chunks for which there is a model."""
BLOCK: Final = 64
"""Chunks in one write, if there is no beat."""
BACKLOG: Final = 4096


def _json(document: Any) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


def _response(body: bytes) -> bytes:
    head = (
        f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def _framed(body: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(body), body)


def _entry(pace: int) -> dict[str, Any]:
    details = {"family": "llama", "parameter_size": "1B", "quantization_level": "Q4_0"}
    name = f"pace:{pace}"
    digest = f"{pace:064x}"
    return {
        "name": name,
        "model": name,
        "modified_at": DATE,
        "size": 1,
        "digest": digest,
        "details": details,
    }


@attrs.frozen
class Script:
    """The bytes of one dialect's answers."""

    head: bytes
    chunk: bytes
    last: bytes
    whole: bytes


def native(model: str) -> Script:
    """Make answers of `/api/chat`."""
    common = {"model": model, "created_at": DATE}
    figures = {
        "done": True,
        "done_reason": "stop",
        "total_duration": 1,
        "prompt_eval_count": 9,
        "eval_count": 9,
    }

    def line(content: str, ending: dict[str, Any]) -> bytes:
        return _json({**common, "message": {"role": "assistant", "content": content}, **ending})

    return Script(
        _head("application/x-ndjson"),
        _framed(line(" token", {"done": False}) + b"\n"),
        _framed(line("", figures) + b"\n") + b"0\r\n\r\n",
        _response(line(" token" * 40, figures)),
    )


def openai(model: str) -> Script:
    """Make answers of `/v1/chat/completions`; usage is always in them."""
    usage = {"prompt_tokens": 9, "completion_tokens": 9, "total_tokens": 18}
    common = {"id": "chatcmpl-1", "created": 1, "model": model, "system_fingerprint": "fp_ollama"}

    def event(choices: list[dict[str, Any]], **more: Any) -> bytes:
        chunk = {**common, "object": "chat.completion.chunk", "choices": choices, **more}
        return _framed(b"data: %b\n\n" % _json(chunk))

    delta = {"role": "assistant", "content": " token"}
    end = {"index": 0, "delta": {"content": ""}, "finish_reason": "stop"}
    message = {"role": "assistant", "content": " token" * 40}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    whole = {**common, "object": "chat.completion", "choices": [choice], "usage": usage}
    return Script(
        _head("text/event-stream"),
        event([{"index": 0, "delta": delta, "finish_reason": None}]),
        event([end]) + event([], usage=usage) + _framed(b"data: [DONE]\n\n") + b"0\r\n\r\n",
        _response(_json(whole)),
    )


def _head(content_type: str) -> bytes:
    return (
        f"HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nTransfer-Encoding: chunked\r\n\r\n"
    ).encode()


MODELS: Final = [_entry(pace) for pace in PACES]
RUNNING: Final = [{**e, "expires_at": "2099-01-01T00:00:00Z", "size_vram": 1} for e in MODELS]
FIXED: Final = {
    b"/api/version": _response(_json({"version": "0.12.0"})),
    b"/api/tags": _response(_json({"models": MODELS})),
    b"/api/ps": _response(_json({"models": RUNNING})),
    b"/api/show": _response(_json({"details": MODELS[0]["details"], "capabilities": []})),
}
SCRIPTS: Final = {
    path: {entry["name"]: make(entry["name"]) for entry in MODELS}
    for path, make in ((b"/api/chat", native), (b"/v1/chat/completions", openai))
}
MISSING: Final = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"


@attrs.define(eq=False)
class Connection:
    """One connection: its input, its pending output, the stream that runs."""

    sock: socket.socket
    received: bytes = b""
    unsent: bytes = b""
    script: Script | None = None
    pace: float = 0.0
    began: float = 0.0
    sent: int = 0
    count: int = 0
    """Chunks, the last included."""

    @property
    def due(self) -> float:
        """Return the time of the next chunk."""
        return self.began + self.pace * self.sent

    def next(self) -> bytes:
        """Return the next bytes of the stream."""
        assert self.script is not None
        head = b"" if self.sent else self.script.head
        number = min(1 if self.pace else BLOCK, self.count - self.sent)
        self.sent += number
        if self.sent < self.count:
            return head + self.script.chunk * number
        last, self.script = self.script, None
        return head + last.chunk * (number - 1) + last.last


@attrs.define(eq=False)
class Upstream:
    """The loop of the backend."""

    port: int
    _poll: select.epoll = attrs.field(factory=select.epoll)
    _open: dict[int, Connection] = attrs.field(factory=dict)
    _beats: list[tuple[float, int, Connection]] = attrs.field(factory=list)
    _numbers: itertools.count[int] = attrs.field(factory=itertools.count)

    def run(self) -> None:
        """Serve for ever."""
        listener = socket.create_server(("127.0.0.1", self.port), backlog=BACKLOG)
        listener.settimeout(0)
        self._poll.register(listener, select.EPOLLIN)
        while True:
            for fd, events in self._poll.poll(self._wait()):
                if fd == listener.fileno():
                    self._accept(listener)
                elif connection := self._open.get(fd):
                    self._happened(connection, events)
            self._beat()

    def _wait(self) -> float:
        return max(self._beats[0][0] - time.monotonic(), 0.0) if self._beats else -1

    def _accept(self, listener: socket.socket) -> None:
        try:
            while True:
                sock, _ = listener.accept()
                sock.settimeout(0)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._open[sock.fileno()] = Connection(sock)
                self._poll.register(sock, select.EPOLLIN)
        except BlockingIOError:
            pass

    def _happened(self, connection: Connection, events: int) -> None:
        try:
            if events & select.EPOLLIN:
                self._receive(connection)
            if events & select.EPOLLOUT:
                self._poll.modify(connection.sock, select.EPOLLIN)
                self._send(connection, b"")
            elif events & (select.EPOLLHUP | select.EPOLLERR):
                self._close(connection)
        except OSError:
            self._close(connection)

    def _receive(self, connection: Connection) -> None:
        received = connection.sock.recv(65536)
        if not received:
            self._close(connection)
            return
        connection.received += received
        head, separator, rest = connection.received.partition(b"\r\n\r\n")
        if separator and len(rest) >= (length := _length(head)):
            connection.received = rest[length:]
            self._answer(connection, head.split(b" ", 2)[1], rest[:length])

    def _answer(self, connection: Connection, path: bytes, body: bytes) -> None:
        scripts = SCRIPTS.get(path)
        if scripts is None:
            self._send(connection, FIXED.get(path, MISSING))
            return
        ask = json.loads(body)
        script = scripts.get(ask["model"])
        if script is None:
            self._send(connection, MISSING)
        elif not ask.get("stream", path == b"/api/chat"):
            self._send(connection, script.whole)
        else:
            connection.script, connection.sent, connection.count = script, 0, _count(ask)
            connection.pace = int(ask["model"].partition(":")[2]) / 1000
            connection.began = time.monotonic()
            self._send(connection, b"")

    def _send(self, connection: Connection, data: bytes) -> None:
        """Send pending bytes, or else the next ones of the stream; the rest once there is room."""
        data = connection.unsent + data
        if not data and connection.script is not None:
            data = connection.next()
        try:
            sent = connection.sock.send(data)
        except BlockingIOError:
            sent = 0
        connection.unsent = data[sent:]
        if connection.unsent:
            self._poll.modify(connection.sock, select.EPOLLIN | select.EPOLLOUT)
        elif connection.script is not None:
            heapq.heappush(self._beats, (connection.due, next(self._numbers), connection))

    def _beat(self) -> None:
        now = time.monotonic()
        due = []
        while self._beats and self._beats[0][0] <= now:
            due.append(heapq.heappop(self._beats)[2])
        for connection in due:
            if connection.sock.fileno() >= 0:
                try:
                    self._send(connection, b"")
                except OSError:
                    self._close(connection)

    def _close(self, connection: Connection) -> None:
        if self._open.pop(connection.sock.fileno(), None):
            connection.sock.close()


def _length(head: bytes) -> int:
    found = head.lower().partition(b"\r\ncontent-length:")[2].partition(b"\r\n")[0]
    return int(found or 0)


def _count(ask: dict[str, Any]) -> int:
    options = ask.get("options") or {}
    bounds = (options.get("num_predict"), ask.get("max_completion_tokens"), ask.get("max_tokens"))
    return next((int(bound) for bound in bounds if bound), 100)


if __name__ == "__main__":
    Upstream(int(sys.argv[1])).run()
