"""Discovery in virtual time: slow, broken and returning backends."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from ollama_gateway.backends.discovery import PollFailed, poll
from ollama_gateway.build_backends import build_backends
from ollama_gateway.settings import BackendSettings, Settings
from ollama_gateway.simulator import Model, Script, Simulator
from tests.smoke.fleet import free_port
from tests.support.patience import PATIENCE
from tests.support.scenario import open_scenario

Clock = trio.testing.MockClock
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n"


async def test_a_slow_backend_delays_nobody(autojump_clock: Clock) -> None:
    """Workers poll in parallel: one that hangs does not delay the other's models."""
    slow, fast = Simulator([Model("s:1")]), Simulator([Model("f:1")])
    async with (
        open_scenario({"slow": slow, "fast": fast}) as scenario,
        trio.open_nursery() as nursery,
    ):
        slow.script(Script(hang_after=0), path="/api/tags", times=None)
        fast.add_model(Model("g:1"))
        started = trio.current_time()
        for watch in scenario.gateway.watchers.values():
            nursery.start_soon(watch)
        await trio.sleep(0.1)

        assert len(scenario.gateway.backends.catalog.models) == 3
        assert trio.current_time() - started == pytest.approx(0.1)
        nursery.cancel_scope.cancel()


async def test_a_dead_backend_is_known_within_seconds_and_returns_by_itself(
    autojump_clock: Clock,
) -> None:
    """Failed polls are repeated every two seconds; the first good one brings a backend back."""
    simulator = Simulator([Model("m:1")])
    async with open_scenario({"a": simulator}) as scenario, trio.open_nursery() as nursery:
        simulator.go_down()
        for watch in scenario.gateway.watchers.values():
            nursery.start_soon(watch)
        await trio.sleep(4.5)
        assert [backend.is_up for backend in scenario.gateway.backends.all] == [False]

        simulator.come_back()
        await trio.sleep(2)

        assert [backend.is_up for backend in scenario.gateway.backends.all] == [True]
        nursery.cancel_scope.cancel()


async def test_loaded_models_may_keep_silent(autojump_clock: Clock) -> None:
    """If `/api/ps` does not answer, the backend is up and its previous answer stays."""
    simulator = Simulator([Model("m:1")])
    async with open_scenario({"a": simulator}) as scenario:
        simulator.load("m:1")
        await scenario.poll()
        simulator.script(Script(hang_after=0), path="/api/ps")
        await scenario.poll()

        assert scenario.gateway.backends.all[0].failed_polls == 0
        assert len(scenario.gateway.backends.catalog.running) == 1


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://nowhere.invalid", "cannot connect: unknown host"),
        ("http://127.0.0.1:{free}", "cannot connect: refused"),
        ("http://localhost:{free}", "cannot connect: refused"),
        ("http://127.0.0.1:{port}/v1", "/api/version answered 404: its URL should end before /v1"),
        (
            "http://127.0.0.1:{port}/API/chat",
            "/api/version answered 404: its URL should end before /API",
        ),
        ("http://127.0.0.1:{port}/v12", "/api/version answered 404"),
    ],
)
async def test_why_a_url_does_not_lead_to_an_ollama(url: str, reason: str) -> None:
    """An unknown host, a port without a server and a path too long read differently."""
    listener = await trio.open_tcp_listeners(0, host="127.0.0.1")

    async def refuse(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, refuse, listener)
        port = listener[0].socket.getsockname()[1]
        text = url.format(free=free_port(), port=port)
        settings = Settings(backends=(BackendSettings("a", text),))
        (backend,) = build_backends(settings).all
        with pytest.raises(PollFailed) as failed:
            await poll(backend, PATIENCE)
        nursery.cancel_scope.cancel()
    assert str(failed.value) == reason


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (Script(hang_after=0), "no answer in time"),
        (Script(status=500, error="x"), "/api/tags answered 500"),
        (Script(raw=HEAD + b"{bad"), "/api/tags did not answer as Ollama does"),
        (
            Script(raw=HEAD + b'{"models":[{"size":NaN}]}'),
            "/api/tags did not answer as Ollama does",
        ),
        (Script(raw=HEAD + b"\xff\xfe"), "/api/tags did not answer as Ollama does"),
        (Script(raw=HEAD + b"[" * 200_000), "/api/tags did not answer as Ollama does"),
        (Script(raw=HEAD + b"x" * 17 * 2**20), "/api/tags did not answer as Ollama does"),
        (Script(raw=b"SSH-2.0-x\r\n\r\n"), "/api/tags did not answer as Ollama does"),
        (Script(raw=HEAD, drip=1), "no answer in time"),
    ],
)
async def test_a_poll_fails_with_a_word_of_ours(
    autojump_clock: Clock, script: Script, reason: str
) -> None:
    """A poll that fails in any way ends in time, with a fixed text."""
    simulator = Simulator([Model("m:1")])
    async with open_scenario({"a": simulator}) as scenario:
        simulator.script(script, path="/api/tags")
        await scenario.poll()

        assert scenario.gateway.backends.all[0].error == reason


async def test_a_poll_carries_the_backends_own_key(autojump_clock: Clock) -> None:
    """Polls have the headers and address of requests, and never run an inference."""
    simulator = Simulator([Model("m:1")])
    secret = '[{"name":"a","url":"http://a","auth_token":"backend-token"}]'
    async with open_scenario({"a": simulator}, settings={"OLLAMA_BACKENDS": secret}):
        paths = [seen.path for seen in simulator.seen]
        keys = {dict(seen.headers).get(b"authorization") for seen in simulator.seen}

    assert paths == ["/api/version", "/api/tags", "/api/ps"]
    assert keys == {b"Bearer backend-token"}


async def test_thousands_of_models_are_listed(autojump_clock: Clock) -> None:
    """A long answer, which is parsed in turns, is read whole."""
    simulator = Simulator([Model(f"m{number}:1") for number in range(3000)])
    async with open_scenario({"a": simulator}) as scenario:
        assert len(scenario.gateway.backends.catalog.models) == 3000
        assert scenario.gateway.backends.all[0].failed_polls == 0
