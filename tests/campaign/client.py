"""Clients: each request on a connection of its own, and what came of it.

Blocking, for one thread each; its findings so far may be read from any other.
"""

from __future__ import annotations

import http.client
import json
import math
import random
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from itertools import count
from typing import Final

import attrs

from ollama_gateway.limits.prompt import MESSAGE_TOKENS, TEMPLATE_TOKENS
from tests.smoke.fleet import PATIENCE

OK: Final = 200
LIMITED: Final = 429
UNAVAILABLE: Final = 503
FEWEST_TRIES: Final = 8
"""Of a client that is refused: on a slow machine its seconds are over before it has tried."""


@attrs.define(eq=False)
class Request:
    """One chat, and what its client saw; times are of `time.monotonic()`.

    Args:
        port: of the gateway.
        key: the API key's text.
        model: its name.
        generation: tokens of the answer, at most.
        streams: whether the answer comes in chunks.
        leaves_after: seconds until the client closes the connection, whatever has come.
        leaves_at: chunks of an answer after which it does.
        start: passed by all, connected, before any of them sends.

    """

    port: int
    key: str
    model: str
    generation: int
    streams: bool = False
    leaves_after: float = math.inf
    leaves_at: int | None = None
    start: threading.Barrier | None = None
    began: float = math.inf
    first_chunk_at: float = math.inf
    ended: float = math.inf
    status: int = 0
    headers: Mapping[str, str] = attrs.field(factory=dict)
    chunks: int = 0
    text: int = 0
    """Bytes of the answer's words in them."""
    last: bytes = b""
    """The last line that came."""
    has_left: bool = False
    is_broken: bool = False
    """Whether the connection ended before the answer did."""
    _socket: socket.socket | None = None

    @property
    def body(self) -> bytes:
        """The question."""
        messages = [{"role": "user", "content": "hi"}]
        options = {"num_predict": self.generation}
        return json.dumps(
            {
                "model": self.model,
                "messages": messages,
                "stream": self.streams,
                "options": options,
            }
        ).encode()

    @property
    def prompt_bound(self) -> int:
        """Tokens of the prompt, at most."""
        return len(self.body) + TEMPLATE_TOKENS + MESSAGE_TOKENS

    @property
    def bound(self) -> int:
        """Tokens of prompt and answer, at most."""
        return self.prompt_bound + self.generation

    @property
    def request_id(self) -> str:
        """Its id in the audit log; empty if no answer came."""
        return self.headers.get("x-request-id", "")

    @property
    def is_whole(self) -> bool:
        """Whether the whole answer came."""
        return self.status == OK and b'"done":true' in self.last

    @property
    def tokens(self) -> int:
        """Tokens of prompt and answer, as the whole answer says."""
        told = json.loads(self.last)
        return int(told["prompt_eval_count"] + told["eval_count"])

    def send(self) -> Request:
        """Make the request, and read what comes until its end or the client's."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        with closing(connection):
            connection.connect()
            self._socket = connection.sock
            if self.start is not None:
                self.start.wait(PATIENCE)
            self.began = time.monotonic()
            try:
                self._exchange(connection)
            except TimeoutError:
                assert self.leaves_after < math.inf, "no answer came"
                self.has_left = True
            except (http.client.HTTPException, OSError):
                self.is_broken = True
            self.ended = time.monotonic()
        return self

    def leave(self) -> None:
        """Close the connection, from another thread."""
        assert self._socket is not None
        self._socket.shutdown(socket.SHUT_RDWR)

    def _exchange(self, connection: http.client.HTTPConnection) -> None:
        headers = {"authorization": f"Bearer {self.key}"}
        connection.request("POST", "/api/chat", self.body, headers)
        self._wait()
        with connection.getresponse() as response:
            self.headers = {name.lower(): value for name, value in response.getheaders()}
            self.status = response.status
            while line := self._line(response):
                self.first_chunk_at = min(self.first_chunk_at, time.monotonic())
                self.chunks, self.last = self.chunks + 1, line
                words = json.loads(line).get("message", {}).get("content", "")
                self.text += len(words.encode())
                if self.status == OK and self.chunks == self.leaves_at:
                    self.has_left = True
                    return

    def _line(self, response: http.client.HTTPResponse) -> bytes:
        self._wait()
        return response.readline()

    def _wait(self) -> None:
        """Wait for what comes next no longer than the client stays."""
        assert self._socket is not None
        left = self.began + self.leaves_after - time.monotonic()
        self._socket.settimeout(min(PATIENCE, max(left, 0.0001)))


def until_served(
    make: Callable[[], Request], patience: float, random_: random.Random
) -> Iterable[Request]:
    """Send requests until one is not refused, or for `patience` seconds and some tries."""
    began = time.monotonic()
    for tries in count(1):
        request = make().send()
        yield request
        assert request.status in {OK, LIMITED, UNAVAILABLE} or request.has_left, request
        if request.status not in {LIMITED, UNAVAILABLE}:
            return
        if time.monotonic() > began + patience and tries >= FEWEST_TRIES:
            return
        time.sleep(random_.uniform(0.05, 0.25))


@contextmanager
def sent(requests: list[Request]) -> Iterator[None]:
    """Have all of them under way for the length of the block; waits for their ends."""
    with ThreadPoolExecutor(len(requests)) as pool:
        ends = [pool.submit(request.send) for request in requests]
        try:
            yield
        except BaseException:
            for request in requests:
                if request.ended == math.inf:
                    request.leave()
            raise
    for end in ends:
        end.result()


def eventually(is_so: Callable[[], bool], patience: float = PATIENCE) -> None:
    """Wait until it is so, for `patience` seconds."""
    deadline = time.monotonic() + patience
    while not is_so():
        assert time.monotonic() < deadline, "it did not become so"
        time.sleep(0.01)
