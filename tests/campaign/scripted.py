"""A gateway in the loop of a test, with one backend whose bytes the test writes itself."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Final

import attrs
import trio

from ollama_gateway.build import build
from ollama_gateway.gateway import Gateway
from ollama_gateway.http.binding import bind, listen
from ollama_gateway.keys.location import KEYS_FILE
from ollama_gateway.keys.sqlite import SQLiteKeys
from ollama_gateway.settings import load
from tests.backends.misbehaving import Peer
from tests.campaign.visit import PATH

MODEL: Final = "m:1"
LISTINGS: Final = {
    "/api/version": {"version": "0.33.0"},
    "/api/tags": {"models": [{"name": MODEL, "model": MODEL, "digest": "0" * 64, "details": {}}]},
    "/api/ps": {"models": []},
}
"""Answers of a backend to polls."""


def response(document: object) -> bytes:
    """Return a whole answer."""
    body = json.dumps(document, separators=(",", ":")).encode()
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    return head % len(body) + body


async def next_prompt(peer: Peer) -> str | None:
    """Answer polls until a chat; return its prompt, or None at the end of the connection."""
    while True:
        peer.heard.clear()
        await peer.hear_request()
        if not peer.heard:
            return None
        head, _, body = bytes(peer.heard).partition(b"\r\n\r\n")
        path = head.split()[1].decode()
        if path == PATH:
            prompt: str = json.loads(body)["messages"][0]["content"]
            return prompt
        await peer.say(response(LISTINGS[path]))


@attrs.frozen
class Before:
    """The gateway, the address for clients, and their keys by name."""

    gateway: Gateway
    port: int
    keys: dict[str, str]


@asynccontextmanager
async def gateway_before(
    backend: str, directory: Path, *names: str, host: str = "127.0.0.1", **settings: str
) -> AsyncIterator[Before]:
    """Run the gateway for the length of the block; the backend is polled once.

    Args:
        backend: its host and port.
        directory: the gateway's data.
        names: of keys.
        host: the address for clients.
        settings: as environment variables.

    """
    loaded = load(
        environ={
            "OLLAMA_BACKENDS": f"a=http://{backend}",
            "GATEWAY_STORAGE_DATA_DIR": str(directory),
            **settings,
        },
        cwd=directory,
    )
    with closing(SQLiteKeys(directory / KEYS_FILE)) as store:
        keys = {name: store.create(name)[1] for name in names}
    async with build(loaded.settings) as gateway, trio.open_nursery() as serving:
        await gateway.parts.discovery.poll_once(gateway.backends.all[0])
        sockets = bind(host, 0)
        listen(sockets)
        serving.start_soon(gateway.listener.serve, sockets)
        yield Before(gateway, sockets[0].getsockname()[1], keys)
        serving.cancel_scope.cancel()
