"""A backend that sends extra bytes after its answers: no client gets another's answer."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Final

import attrs
import pytest
import trio

from ollama_gateway.backends import idle
from ollama_gateway.backends.idle import DISTRUST_SECONDS
from tests.backends.misbehaving import Peer, listening
from tests.campaign.conftest import Note
from tests.campaign.scripted import MODEL, gateway_before, next_prompt, response
from tests.campaign.sizes import Sizes
from tests.campaign.visit import Visit

LATEST: Final = 0.06
"""Seconds after an answer in which extra bytes arrive, at most."""


def chat(text: str) -> bytes:
    """Make a model's answer."""
    message = {"role": "assistant", "content": text}
    return response({"model": MODEL, "message": message, "done": True, "done_reason": "stop"})


@attrs.define(eq=False)
class Echo:
    """A backend that answers with the prompt, and sends the same answer once more.

    The second answer comes in the same write, or later: before the next request is read, or
    whatever else is done.
    """

    nursery: trio.Nursery
    dice: random.Random
    connections: int = 0

    async def __call__(self, peer: Peer) -> None:
        """Serve one connection."""
        self.connections += 1
        while (prompt := await next_prompt(peer)) is not None:
            way = self.dice.choice(["at once", "before the next", "by itself", "not at all"])
            await peer.say(chat(prompt) + (chat(prompt) if way == "at once" else b""))
            if way == "before the next":
                await self._say_late(peer, prompt)
            elif way == "by itself":
                self.nursery.start_soon(self._say_late, peer, prompt)

    async def _say_late(self, peer: Peer, prompt: str) -> None:
        await trio.sleep(self.dice.uniform(0, LATEST))
        try:
            # Not through Trio's stream, on which the next answer may be on its way.
            assert isinstance(peer.stream, trio.SocketStream)
            await peer.stream.socket.send(chat(prompt))
        except (OSError, trio.ClosedResourceError):
            pass  # the gateway has closed it


@attrs.define(eq=False)
class Client:
    """Sends requests one after the other, each with a unique prompt."""

    name: str
    key: str
    answered: int = 0
    anothers: list[str] = attrs.field(factory=list)
    """Answers to prompts of other keys."""
    earlier: list[str] = attrs.field(factory=list)
    """Answers to prompts of its own, but not to this one."""

    async def run(self, port: int, times: int) -> None:
        """Send this many requests."""
        for number in range(times):
            prompt = f"{self.name} {number}"
            visit = Visit(port, self.key, MODEL, prompt, streams=False)
            await visit.run()
            assert visit.status == 200
            text = json.loads(visit.data)["message"]["content"]
            self.answered += 1
            if not text.startswith(self.name):
                self.anothers.append(text)
            elif text != prompt:
                self.earlier.append(text)


@pytest.mark.parametrize(
    "distrust", [DISTRUST_SECONDS, 0.0], ids=["as it is", "trusts again at once"]
)
async def test_nobody_gets_an_answer_of_another(
    tmp_path: Path, sizes: Sizes, note: Note, monkeypatch: pytest.MonkeyPatch, distrust: float
) -> None:
    """Two clients, each with a key, alternate at a backend that repeats its answers at random.

    In the second run the gateway goes on keeping connections to it, or there would be little to
    see. A request that gets an earlier answer to its own key is only counted: if the machine stands
    still for a moment, answers can arrive later than the pause of a connection.
    """
    monkeypatch.setattr(idle, "DISTRUST_SECONDS", distrust)
    async with trio.open_nursery() as late:
        echo = Echo(late, random.Random(1))  # noqa: S311 - to be repeatable
        async with (
            listening(echo) as backend,
            gateway_before(f"127.0.0.1:{backend}", tmp_path, "alice", "bob") as before,
        ):
            clients = [Client(name, key) for name, key in before.keys.items()]
            async with trio.open_nursery() as asking:
                for client in clients:
                    asking.start_soon(client.run, before.port, sizes.canaries // len(clients))
        late.cancel_scope.cancel()

    answered = sum(client.answered for client in clients)
    earlier = [text for client in clients for text in client.earlier]
    note(f"{answered} canaries on {echo.connections} connections, {len(earlier)} an earlier answer")
    assert answered == sizes.canaries
    assert [client.anothers for client in clients] == [[], []]
