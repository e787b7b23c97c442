"""A small HTTP server in place of a gateway's admin listener, with answers set by the test."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import attrs


@attrs.define
class AdminListener:
    """Its answers, and the requests it got."""

    port: int
    answers: dict[str, bytes] = attrs.field(factory=dict)
    """By path: all that is sent before the connection is closed."""
    asked: list[tuple[str, str | None]] = attrs.field(factory=list)
    """Paths, and the value of `Authorization`."""

    def says(self, path: str, value: object, status: int = 200) -> None:
        """Set the JSON answer of a path."""
        self.answers[path] = http(json.dumps(value).encode(), status)


def http(body: bytes, status: int = 200, headers: str = "") -> bytes:
    """A whole response."""
    return f"HTTP/1.1 {status} X\r\ncontent-length: {len(body)}\r\n{headers}\r\n".encode() + body


@contextmanager
def admin_listener() -> Iterator[AdminListener]:
    """Listen on a free port for the length of the block; answer unknown paths with 404."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            listener.asked.append((self.path, self.headers["authorization"]))
            self.wfile.write(listener.answers.get(self.path, http(b'{"error":"x"}', 404)))

        do_POST = do_PATCH = do_DELETE = do_GET  # noqa: N815 - as the library has it

        def log_message(self, *_arguments: Any) -> None:
            pass

    class Server(HTTPServer):
        def handle_error(self, *given: Any) -> None:
            """A client may close before it has read all; a line on stderr would be its own."""
            if not isinstance(sys.exception(), ConnectionError):
                super().handle_error(*given)

    with Server(("127.0.0.1", 0), Handler) as server:
        listener = AdminListener(server.server_port)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield listener
        finally:
            server.shutdown()
            thread.join()
