"""What a parent tells a serving process over its control socket: to prepare settings, to use them.

An order is a length of four bytes and a pickle; its answer is a length and a text, which is empty
if the order was obeyed. Orders come one after another. The end of the socket means drain.
"""

from __future__ import annotations

import pickle
import socket
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Final, cast

import anyio
import attrs
import trio

from ollama_gateway.gateway import Gateway
from ollama_gateway.reloading import attempted
from ollama_gateway.server.reload_handlers import ReloadFailed
from ollama_gateway.settings import Settings
from ollama_gateway.storage.batcher import in_thread

LENGTH_BYTES: Final = 4


@attrs.frozen
class Prepare:
    """Build what these settings say, and change nothing."""

    settings: Settings


@attrs.frozen
class Commit:
    """Put the prepared settings in force."""


Order = Prepare | Commit


def message(content: bytes) -> bytes:
    """Return the bytes of a message."""
    return len(content).to_bytes(LENGTH_BYTES) + content


class ControlEnded(Exception):
    """The other end of the control socket is gone, or this process was told to drain."""


@attrs.define(eq=False)
class ControlSocket:
    """Either end of a control socket."""

    stream: trio.SocketStream

    @classmethod
    def of(cls, sock: socket.socket) -> ControlSocket:
        """Wrap a socket, which then belongs to the stream."""
        return cls(trio.SocketStream(trio.socket.from_stdlib_socket(sock)))

    async def send(self, content: bytes) -> None:
        """Send a message; raises ControlEnded."""
        try:
            await self.stream.send_all(message(content))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise ControlEnded from None

    async def receive(self) -> bytes:
        """Wait for a message; raises ControlEnded."""
        return await self._exactly(int.from_bytes(await self._exactly(LENGTH_BYTES)))

    async def _exactly(self, count: int) -> bytes:
        received = b""
        while len(received) < count:
            try:
                chunk = await self.stream.receive_some(count - len(received))
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                raise ControlEnded from None
            if not chunk:
                raise ControlEnded
            received += chunk
        return received


async def obey(
    control_socket: socket.socket, on_change: Callable[[Settings], object], gateway: Gateway
) -> None:
    """Obey the parent until it says drain, or has ended: in the child, the task of this socket.

    Args:
        control_socket: nothing but orders comes over it any more.
        on_change: called when other settings are in force.
        gateway: gets them.

    """
    control, configuration = ControlSocket.of(control_socket), None
    with suppress(ControlEnded):
        async with control.stream:
            while True:
                # It comes from the parent, over a descriptor that no other process has.
                order = cast("Order", pickle.loads(await control.receive()))  # noqa: S301
                answer = ""
                if isinstance(order, Prepare):
                    try:
                        configuration = await attempted(
                            partial(gateway.prepare, order.settings), in_thread
                        )
                    except ReloadFailed as error:
                        configuration, answer = None, str(error)
                elif configuration is not None:
                    await gateway.adopt(configuration)
                    on_change(gateway.settings)
                await control.send(answer.encode())


async def ordered(control: ControlSocket, order: Order, seconds: float) -> str | None:
    """Give an order, in the parent; return its answer, or None if there is none in time.

    After None the process must go: a late answer would pass for that of a later order. Raises
    ControlEnded if the process ends by itself.
    """
    with anyio.move_on_after(seconds):
        await control.send(pickle.dumps(order))
        return (await control.receive()).decode()
    return None
