"""A backend that says more than it was asked: nobody gets what was meant for another."""

from __future__ import annotations

import json
import random
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Final

import attrs
import pytest
import trio

from ollama_gateway.backends import idle
from ollama_gateway.backends.idle import DISTRUST
from ollama_gateway.build import build
from ollama_gateway.keys import FILE_NAME
from ollama_gateway.keys.sqlite import SQLiteKeys
from ollama_gateway.server.listener import bind
from ollama_gateway.settings import load
from tests.backends.misbehaving import Peer, listening
from tests.campaign.conftest import Note
from tests.campaign.sizes import Sizes
from tests.campaign.visit import PATH, Visit

MODEL: Final = "m:1"
SOONEST, LATEST = 0.0, 0.06
"""Seconds behind an answer in which more comes."""
LISTINGS: Final = {
    "/api/version": {"version": "0.33.0"},
    "/api/tags": {"models": [{"name": MODEL, "model": MODEL, "digest": "0" * 64, "details": {}}]},
    "/api/ps": {"models": []},
}


def response(document: object) -> bytes:
    """A whole answer."""
    body = json.dumps(document, separators=(",", ":")).encode()
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    return head % len(body) + body


def chat(text: str) -> bytes:
    """What a model says."""
    message = {"role": "assistant", "content": text}
    return response({"model": MODEL, "message": message, "done": True, "done_reason": "stop"})


@attrs.define(eq=False)
class Echo:
    """A backend that answers with the prompt, and behind that says it once more.

    It comes in the same write, or later: before the next request is read, or whatever else there
    is to be done.
    """

    nursery: trio.Nursery
    dice: random.Random
    connections: int = 0

    async def __call__(self, peer: Peer) -> None:
        """Serve one connection."""
        self.connections += 1
        while True:
            peer.heard.clear()
            await peer.hear_request()
            if not peer.heard:
                return
            head, _, body = bytes(peer.heard).partition(b"\r\n\r\n")
            path = head.split()[1].decode()
            if path == PATH:
                await self._answer(peer, json.loads(body)["messages"][0]["content"])
            else:
                await peer.say(response(LISTINGS[path]))

    async def _answer(self, peer: Peer, prompt: str) -> None:
        way = self.dice.choice(["at once", "before the next", "by itself", "not at all"])
        await peer.stream.send_all(chat(prompt) + (chat(prompt) if way == "at once" else b""))
        if way == "before the next":
            await self._say_late(peer, prompt)
        elif way == "by itself":
            self.nursery.start_soon(self._say_late, peer, prompt)

    async def _say_late(self, peer: Peer, prompt: str) -> None:
        await trio.sleep(self.dice.uniform(SOONEST, LATEST))
        try:
            # Not through Trio's stream, on which the next answer may be on its way.
            assert isinstance(peer.stream, trio.SocketStream)
            await peer.stream.socket.send(chat(prompt))
        except (OSError, trio.ClosedResourceError):
            pass  # the gateway has closed it


@attrs.define(eq=False)
class Client:
    """Asks again and again, with a prompt that nobody else has."""

    name: str
    port: int
    key: str
    answered: int = 0
    anothers: list[str] = attrs.field(factory=list)
    """Answers to prompts of other keys."""
    earlier: list[str] = attrs.field(factory=list)
    """Answers to prompts of its own, but not to this one."""

    async def run(self, times: int) -> None:
        """Ask so many times."""
        for number in range(times):
            prompt = f"{self.name} {number}"
            visit = Visit(self.port, self.key, MODEL, prompt, streams=False)
            await visit.run()
            assert visit.status == 200
            text = json.loads(visit.data)["message"]["content"]
            self.answered += 1
            if not text.startswith(self.name):
                self.anothers.append(text)
            elif text != prompt:
                self.earlier.append(text)


@pytest.mark.parametrize("distrust", [DISTRUST, 0.0], ids=["as it is", "trusts again at once"])
async def test_nobody_gets_an_answer_of_another(
    tmp_path: Path, sizes: Sizes, note: Note, monkeypatch: pytest.MonkeyPatch, distrust: float
) -> None:
    """Two clients, each with a key, alternate at a backend that repeats itself at random moments.

    Once with a gateway that goes on keeping connections to it, for else there is little to see.
    """
    monkeypatch.setattr(idle, "DISTRUST", distrust)
    async with trio.open_nursery() as nursery:
        echo = Echo(nursery, random.Random(1))  # noqa: S311 - to be repeatable
        async with listening(echo) as backend:
            settings = load(
                environ={
                    "OLLAMA_BACKENDS": f"a=http://127.0.0.1:{backend}",
                    "GATEWAY_STORAGE_DATA_DIR": str(tmp_path),
                },
                cwd=tmp_path,
            ).settings
            with closing(SQLiteKeys(tmp_path / FILE_NAME)) as store:
                keys = {name: store.create(name)[1] for name in ("alice", "bob")}
            async with build(settings) as gateway, trio.open_nursery() as serving:
                await gateway.discovery.poll_once(gateway.backends.all[0])
                sockets = bind("127.0.0.1", 0)
                serving.start_soon(gateway.listener.serve, sockets)
                port = sockets[0].getsockname()[1]
                clients = [Client(name, port, key) for name, key in keys.items()]
                async with trio.open_nursery() as asking:
                    for client in clients:
                        asking.start_soon(partial(client.run, sizes.canaries // len(clients)))
                serving.cancel_scope.cancel()
        nursery.cancel_scope.cancel()

    answered = sum(client.answered for client in clients)
    anothers = [text for client in clients for text in client.anothers]
    earlier = [text for client in clients for text in client.earlier]
    note(f"{answered} canaries on {echo.connections} connections, {len(earlier)} of an own answer")
    assert answered == sizes.canaries
    assert anothers == []
    if sizes.is_timed:  # on a machine that stands still for a moment more can come too late
        assert earlier == []
