"""Comments in a stream of events while its first chunk is awaited (`race.ping_after`).

Some proxies and clients give up on a connection that is silent for long, and a model that loads or
reads a long prompt is. A comment keeps them waiting, at a price: with it the answer has begun, so
its status is 200, and an error comes as an event.

Lines of JSON have no comments, so Ollama's own streams stay silent.
"""

from __future__ import annotations

from types import TracebackType
from typing import Final

import anyio
import attrs

from ollama_gateway.flow.ask import Ask
from ollama_gateway.flow.attempt import GoodAnswer
from ollama_gateway.flow.race import Race
from ollama_gateway.ledger.record import AuditRecord
from ollama_gateway.wire.headers import UNBUFFERED, Headers

PING: Final = b": ping\n\n"
"""A comment (WHATWG HTML, 9.2.5), which readers of events skip."""
HEADERS: Final[Headers] = [
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-cache"),
    UNBUFFERED,
]


@attrs.define(eq=False)
class PingedRace:
    """A race, as a block, during whose search the client gets comments.

    A comment that is being sent is finished before the block is entered or raises, so nothing is
    ever sent in the middle of one.
    """

    race: Race
    ask: Ask
    record: AuditRecord
    after: float
    """Seconds before each comment."""
    headers: Headers
    _over: anyio.Event = attrs.field(factory=anyio.Event, init=False)

    async def __aenter__(self) -> GoodAnswer:
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._ping)
                found = await self._search()
                self._over.set()
        except BaseException:
            await self.race.__aexit__(None, None, None)  # it may have a winner already
            raise
        if isinstance(found, Exception):
            raise found
        return found

    async def _search(self) -> GoodAnswer | Exception:
        """Return the winner, or the error of the race, which the group would wrap."""
        try:
            return await self.race.__aenter__()
        except Exception as error:  # noqa: BLE001 - the caller raises it
            return error

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.race.__aexit__(kind, error, trace)

    async def _ping(self) -> None:
        while True:
            with anyio.move_on_after(self.after):
                await self._over.wait()
                return
            if not self.ask.downstream.has_started:
                self.record.status = 200
                await self.ask.downstream.start(200, [*HEADERS, *self.headers])
            await self.ask.downstream.send(PING)
