"""A client of Ollama's API that reads a stream when the test says so."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any, Final

from tests.podman.podman import PATIENCE

MODEL: Final = "shared:1"
SLOW: Final = "slow:1"
"""A model whose answer takes 8 s."""

Lines = list[dict[str, Any]]


@contextmanager
def begun_chat(port: int, key: str, model: str = SLOW) -> Iterator[Callable[[], Lines]]:
    """Start a chat and read its first line; the yielded function reads the rest."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)) as connection:
        response = _asked(connection, key, model)
        assert response.status == 200, response.read()
        assert json.loads(response.readline())["done"] is False
        yield lambda: _whole(response.read())


def chatted(port: int, key: str, model: str = MODEL) -> int:
    """Return the status of a whole chat; fail if a stream with 200 does not end properly."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)) as connection:
        response = _asked(connection, key, model)
        body = response.read()
        assert response.status != 200 or len(_whole(body)) > 2
        return response.status


def _asked(
    connection: http.client.HTTPConnection, key: str, model: str
) -> http.client.HTTPResponse:
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "hi"}]})
    connection.request("POST", "/api/chat", body, {"authorization": f"Bearer {key}"})
    return connection.getresponse()


def _whole(body: bytes) -> Lines:
    """Return the lines of a whole stream; http.client decodes the chunks."""
    lines: Lines = [json.loads(line) for line in body.splitlines()]
    assert [line["done"] for line in lines] == [False] * (len(lines) - 1) + [True]
    return lines
