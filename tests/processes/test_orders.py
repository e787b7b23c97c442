"""Orders over a control socket: what a process does, and the meaning of the socket's end."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import attrs
import pytest
import trio
from trio.testing import MockClock

from ollama_gateway.processes.orders import (
    Commit,
    ControlEnded,
    ControlSocket,
    Prepare,
    obey,
    ordered,
)
from ollama_gateway.settings import Settings
from tests.support.patience import PATIENCE
from tests.support.scenario import Scenario, open_scenario

CERT = Path("/no/such/file")


@attrs.define
class Obeying:
    """A gateway that obeys, and the parent's end of its control socket."""

    scenario: Scenario
    control: ControlSocket
    has_ended: trio.Event = attrs.field(factory=trio.Event)
    seen: list[Settings] = attrs.field(factory=list)
    """The settings that were put in force."""

    def narrowed(self) -> Settings:
        """Return the settings without the second backend."""
        settings = self.scenario.gateway.settings
        return attrs.evolve(settings, backends=settings.backends[:1])


@asynccontextmanager
async def obeying() -> AsyncIterator[Obeying]:
    """Let a gateway obey, in the way of a child."""
    ours, theirs = socket.socketpair()
    async with open_scenario() as scenario, trio.open_nursery() as nursery:
        made = Obeying(scenario, ControlSocket.of(ours))

        async def follow() -> None:
            await obey(theirs, made.seen.append, scenario.gateway)
            made.has_ended.set()

        nursery.start_soon(follow)
        async with made.control.stream:
            yield made
        nursery.cancel_scope.cancel()


async def test_settings_are_prepared_then_used() -> None:
    """Preparing changes nothing; the commit puts the settings in force."""
    async with obeying() as child:
        gateway, settings = child.scenario.gateway, child.narrowed()
        assert await ordered(child.control, Prepare(settings), PATIENCE) == ""
        before = len(gateway.backends.all)
        assert await ordered(child.control, Commit(), PATIENCE) == ""

        assert (before, len(gateway.backends.all)) == (2, 1)
        assert child.seen == [settings]


async def test_what_cannot_be_prepared_is_said() -> None:
    """The answer says why settings cannot be used; the process goes on and obeys later orders."""
    async with obeying() as child:
        settings = child.narrowed()
        wrong = attrs.evolve(
            settings, server=attrs.evolve(settings.server, tls_cert=CERT, tls_key=CERT)
        )
        assert await ordered(child.control, Prepare(wrong), PATIENCE) == "No such file or directory"
        assert await ordered(child.control, Commit(), PATIENCE) == ""
        assert len(child.scenario.gateway.backends.all) == 2
        assert await ordered(child.control, Prepare(settings), PATIENCE) == ""


async def test_the_end_of_the_socket_means_drain() -> None:
    """A process drains when its parent says so, or has ended."""
    async with obeying() as child:
        child.control.stream.socket.shutdown(socket.SHUT_WR)
        with trio.fail_after(PATIENCE):
            await child.has_ended.wait()


async def test_a_process_that_is_silent(autojump_clock: MockClock) -> None:
    """A process that hangs has its time for an answer, one that has ended has none."""
    ours, theirs = socket.socketpair()
    with theirs:
        control = ControlSocket.of(ours)
        async with control.stream:
            assert await ordered(control, Commit(), 10) is None
            assert trio.current_time() == 10
            theirs.close()
            with pytest.raises(ControlEnded):
                await ordered(control, Commit(), 10)
            assert trio.current_time() == 10
