"""Collectors on real sockets, good and bad, in a thread."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

import attrs

from tests.tracing.otlp_rules import checked, values

OK: Final = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"


@attrs.define
class Collector:
    """What a collector has received."""

    port: int
    spans: list[dict[str, Any]] = attrs.field(factory=list)
    """Each checked against the definitions of OTLP."""
    instances: set[str] = attrs.field(factory=set)
    """The processes that they came from."""
    faults: list[str] = attrs.field(factory=list)
    """Why an export was not right."""
    headers: list[dict[str, str]] = attrs.field(factory=list)

    @property
    def url(self) -> str:
        """Its base URL."""
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def collecting() -> Iterator[Collector]:
    """Run a collector that checks what it receives."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            collector.headers.append(
                {"path": self.path, **{k.lower(): v for k, v in self.headers.items()}}
            )
            try:
                collector.spans += checked(body)
                collector.instances |= {
                    values(one["resource"])["service.instance.id"]
                    for one in json.loads(body)["resourceSpans"]
                }
            except AssertionError as error:
                collector.faults.append(str(error))
            self.wfile.write(OK)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        collector = Collector(server.server_address[1])
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield collector
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def misbehaving(behave: Callable[[socket.socket], None]) -> Iterator[str]:
    """Run a server that does this with each connection; yields its URL."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        connected: list[socket.socket] = []

        def serve() -> None:
            with suppress(OSError):
                while True:
                    client, _ = server.accept()
                    connected.append(client)
                    threads.append(threading.Thread(target=attend, args=(client,)))
                    threads[-1].start()

        def attend(client: socket.socket) -> None:
            with suppress(OSError), client:
                behave(client)

        threads = [threading.Thread(target=serve)]
        threads[0].start()
        try:
            yield f"http://127.0.0.1:{server.getsockname()[1]}"
        finally:
            with suppress(OSError):
                server.shutdown(socket.SHUT_RDWR)
            for client in connected:
                with suppress(OSError):
                    client.shutdown(socket.SHUT_RDWR)
            for thread in threads:
                thread.join()
