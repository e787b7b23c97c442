"""Reloads in virtual time: what changes, what stays, and what goes on undisturbed."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest
import trio
from trio.testing import MockClock

from ollama_gateway.models.rules import StayRule
from ollama_gateway.server.reload_handlers import ReloadFailed
from ollama_gateway.settings.load_rules import ModelSettings
from ollama_gateway.simulator import Model, Script, Simulator
from ollama_gateway.wire.names import ModelName
from tests.support.reloading import A, B, Change, backends, changed, reloadable, stream, without

SLOW = Model("m1:latest", tuple("0123456789"), between_tokens=1)
"""Streams ten tokens in ten seconds."""


async def test_a_stream_on_a_removed_backend_goes_on(autojump_clock: MockClock) -> None:
    """A stream ends by itself on a backend that a reload removes; the next one goes elsewhere."""
    async with reloadable(models=(SLOW,)) as gateway, trio.open_nursery() as nursery:
        replies = stream(gateway, nursery)
        await trio.sleep(3)
        paths = await gateway.reload(without("a"))
        after = await gateway.scenario.ask()
        await trio.sleep(10)

    assert paths == ["backends[a]"]
    assert (after.headers["x-gateway-backend"], after.is_complete) == ("b", True)
    assert (replies[0].text, replies[0].is_complete) == ("0123456789", True)
    assert replies[0].headers["x-gateway-backend"] == "a"


async def test_a_removed_backend_is_watched_until_it_is_idle(autojump_clock: MockClock) -> None:
    """Polls of a removed backend end with its last stream."""
    simulator = Simulator([SLOW])
    given = {"a": simulator, "b": Simulator([SLOW])}
    often = {"GATEWAY_DISCOVERY_INTERVAL": "1s"}
    async with (
        reloadable(given=given, settings=often) as gateway,
        trio.open_nursery() as nursery,
    ):
        stream(gateway, nursery)
        await trio.sleep(3)
        removed = gateway.scenario.gateway.backends.all[0]
        await gateway.reload(without("a"))
        polled = removed.polls
        await trio.sleep(10)
        assert removed.polls > polled
        polled = removed.polls
        await trio.sleep(100)
        assert removed.polls == polled


async def test_a_new_backend_is_polled_before_it_is_used(autojump_clock: MockClock) -> None:
    """A reload waits 3 s for the poll of a new backend, which gets requests once a poll is good."""
    async with reloadable() as gateway:
        scenario = gateway.scenario
        await gateway.reload(without("a"))
        for _ in range(2):
            scenario.simulators["a"].script(Script(before=10), path="/api/tags")
        began = trio.current_time()
        await gateway.reload(backends(lambda named: {"a": A, **named}))
        assert trio.current_time() == began + 3
        before = await scenario.ask()
        await trio.sleep(20)
        after = await scenario.ask()

    assert [reply.headers["x-gateway-backend"] for reply in (before, after)] == ["b", "a"]


async def test_what_was_learned_stays(autojump_clock: MockClock) -> None:
    """A backend keeps its breakers, measurements and slots in use when its settings change."""
    async with reloadable(models=(SLOW,)) as gateway, trio.open_nursery() as nursery:
        stream(gateway, nursery)
        await trio.sleep(3)
        (a, _) = gateway.scenario.gateway.backends.all
        health = a.health_of(ModelName.parse("m1"))
        await gateway.reload(changed("a", priority=5, slots=1))

        assert [backend.name for backend in gateway.scenario.gateway.backends.all] == ["b", "a"]
        assert gateway.scenario.gateway.backends.all[1] is a
        assert (a.in_flight, a.slots, a.is_full) == (1, 1, True)
        assert a.health_of(ModelName.parse("m1")) is health
        nursery.cancel_scope.cancel()


async def test_a_changed_url_is_another_backend(autojump_clock: MockClock) -> None:
    """A backend with another URL begins anew, under the same name."""
    async with reloadable() as gateway:
        before, _ = gateway.scenario.gateway.backends.all
        paths = await gateway.reload(changed("a", url="http://elsewhere"))
        after, _ = gateway.scenario.gateway.backends.all

        assert paths == ["backends[a].url"]
        assert (after.name, after is before, after.is_up) == ("a", False, True)


async def test_a_waiting_request_gets_a_new_backend(autojump_clock: MockClock) -> None:
    """A request in line takes a slot of a backend that a reload adds."""
    async with reloadable(models=(SLOW,), slots=1) as gateway, trio.open_nursery() as nursery:
        await gateway.reload(without("b"))
        replies = stream(gateway, nursery, 2)
        await trio.sleep(1)
        assert len(gateway.scenario.gateway.backends.line) == 1
        await gateway.reload(backends(lambda named: {**named, "b": attrs.evolve(A, **B)}))
        await trio.sleep(11)

        assert [reply.headers["x-gateway-backend"] for reply in replies] == ["a", "b"]


@pytest.mark.parametrize("is_good", [True, False], ids=["good", "broken"])
async def test_all_backends_are_replaced(autojump_clock: MockClock, *, is_good: bool) -> None:
    """Requests in line and new ones go to a new backend at once; if it is down they are refused."""
    async with reloadable(models=(SLOW,), slots=1) as gateway, trio.open_nursery() as nursery:
        await gateway.reload(without("b"))
        replies = stream(gateway, nursery, 2)
        await trio.sleep(1)
        if not is_good:
            for _ in range(9):
                gateway.scenario.simulators["b"].script(Script(status=500), path="/api/tags")
        await gateway.reload(lambda s: attrs.evolve(s, backends=(attrs.evolve(A, **B),)))
        late = stream(gateway, nursery)
        await trio.sleep(30)

    expected = [200, 200, 200] if is_good else [200, 403, 503]
    assert sorted(reply.status for reply in [*replies, *late]) == expected


async def test_fewer_models_of_a_backend(autojump_clock: MockClock) -> None:
    """`models` narrowed takes effect at once, widened from the next poll."""
    models = Model("m1:latest"), Model("m2:latest")
    async with reloadable(models=models) as gateway:
        catalog = gateway.scenario.gateway.backends
        await gateway.reload(without("b"))
        await gateway.reload(changed("a", models=("m1",)))
        assert set(catalog.catalog.models) == {ModelName.parse("m1").key}
        await gateway.reload(changed("a", models=("*",)))
        await trio.sleep(11)
        assert len(catalog.catalog.models) == 2


async def test_rules_for_models(autojump_clock: MockClock) -> None:
    """A rule that a reload brings holds for the next request, and each rule is a change."""
    body = {"model": "m1", "prompt": "hi", "stream": False, "keep_alive": "2m"}

    def ruled(*rules: ModelSettings) -> Change:
        return lambda settings: attrs.evolve(settings, models=rules)

    async with reloadable(given={"a": Simulator([SLOW])}) as gateway:
        seen = []
        longer, all_longer = (
            ModelSettings("m1", keep_alive=StayRule("exactly", 1800)),
            ModelSettings("*", keep_alive=StayRule("exactly", 1800)),
        )
        for rules in ((longer,), (all_longer, longer), ()):
            paths = await gateway.reload(ruled(*rules))
            reply = await gateway.scenario.ask("/api/generate", body)
            seen.append((paths, reply.headers.get("x-gateway-changed")))
            await trio.sleep(2)

    assert seen == [
        (["models[0]"], "keep_alive"),
        (["models[0].match", "models[1]"], "num_ctx, keep_alive"),
        (["models[0]", "models[1]"], "num_ctx"),
    ]


async def test_a_request_keeps_its_deadlines(autojump_clock: MockClock) -> None:
    """A stream that has begun keeps the total time that it began with; the next has the new one."""
    async with reloadable(models=(SLOW,)) as gateway, trio.open_nursery() as nursery:
        replies = stream(gateway, nursery)
        await trio.sleep(1)
        await gateway.reload(
            lambda s: attrs.evolve(s, race=attrs.evolve(s.race, total_timeout=5.0))
        )
        replies += [await gateway.scenario.ask()]
        await trio.sleep(10)

    assert sorted(reply.is_complete for reply in replies) == [False, True]
    assert sorted(reply.text for reply in replies)[1] == "0123456789"


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (
            lambda s: attrs.evolve(s, server=attrs.evolve(s.server, processes=2)),
            "server.processes: needs a restart",
        ),
        (
            lambda s: attrs.evolve(s, audit=attrs.evolve(s.audit, keep=1.0)),
            "audit.keep: needs a restart",
        ),
        (
            lambda s: attrs.evolve(
                s, server=attrs.evolve(s.server, tls_cert=Path("/no"), tls_key=Path("/no"))
            ),
            "No such file",
        ),
    ],
)
async def test_a_failed_reload_changes_nothing(
    autojump_clock: MockClock, change: Change, problem: str
) -> None:
    """Where one change cannot be made, none is, and metrics say so."""
    async with reloadable() as gateway:
        in_force = gateway.scenario.gateway.configuration
        with pytest.raises(ReloadFailed) as failed:
            await gateway.reload(lambda s: change(without("a")(s)))

        assert str(failed.value).startswith(problem)
        assert gateway.scenario.gateway.configuration is in_force
        assert gateway.reaches() == ["a", "b"]
        page = gateway.scenario.gateway.parts.metrics.page().decode()
        assert "ollama_gateway_config_last_reload_successful 0.0" in page
        gateway.settings = gateway.scenario.gateway.settings
        await gateway.reload(without("a"))
        page = gateway.scenario.gateway.parts.metrics.page().decode()
        assert "ollama_gateway_config_last_reload_successful 1.0" in page


async def test_a_hundred_reloads_touch_no_stream(autojump_clock: MockClock) -> None:
    """Streams and a waiting line see nothing of a hundred reloads, one in ten of them invalid."""
    models = (Model("m1:latest", ("x",) * 120, between_tokens=1),)
    async with reloadable(models=models, slots=40) as gateway, trio.open_nursery() as nursery:
        replies = stream(gateway, nursery, 100)
        changes = [
            changed("a", priority=9),
            without("b"),
            backends(lambda named: named | {"b": attrs.evolve(A, **B)}),
            changed("a", priority=0, slots=41),
            lambda s: attrs.evolve(s, race=attrs.evolve(s.race, hedge_after="off")),
        ]
        for number in range(100):
            await trio.sleep(1)
            if number % 10 == 9:
                good = gateway.settings
                with pytest.raises(ReloadFailed):
                    await gateway.reload(
                        lambda s: attrs.evolve(s, server=attrs.evolve(s.server, processes=2))
                    )
                gateway.settings = good
            else:
                await gateway.reload(changes[number % 5])
        await trio.sleep(500)

    assert [reply.text for reply in replies] == ["x" * 120] * 100
    assert all(reply.is_complete for reply in replies)
