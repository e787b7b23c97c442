"""Backends in trouble, from client to simulator: which backends are asked, in which order."""

from __future__ import annotations

import trio
import trio.testing

from ollama_gateway.backends.breaker import FAILURES, JITTER, LONGEST_WAIT
from ollama_gateway.simulator import Model, Script, Simulator
from tests.flow.test_scenarios import SLOW, outcome
from tests.support.scenario import CHAT, Scenario, open_scenario

Clock = trio.testing.MockClock
FULL_NAME = {**CHAT, "model": "m1:latest"}


def asked(scenario: Scenario) -> list[str]:
    """Return the backends of the last request, in order."""
    return [attempt.backend for attempt in scenario.records[-1].attempts]


async def test_a_flapping_backend(autojump_clock: Clock) -> None:
    """It goes up and down every half second, and no client notices; once it stays up, it is asked
    first again.
    """
    async with open_scenario() as scenario, trio.open_nursery() as nursery:

        async def flap() -> None:
            while True:
                scenario.simulators["a"].go_down()
                await trio.sleep(0.5)
                scenario.simulators["a"].come_back()
                await trio.sleep(0.5)

        nursery.start_soon(flap)
        replies = []
        for _ in range(100):
            replies.append(await scenario.ask())
            await trio.sleep(0.13)
        nursery.cancel_scope.cancel()
        scenario.simulators["a"].come_back()
        await trio.sleep(LONGEST_WAIT * (1 + JITTER))
        await scenario.ask()
        assert asked(scenario) == ["a"]

    assert {(reply.status, reply.text, reply.is_complete) for reply in replies} == {
        (200, "Hello", True)
    }
    orders = {tuple(attempt.backend for attempt in record.attempts) for record in scenario.records}
    assert {("a", "b"), ("b",)} <= orders <= {("a",), ("a", "b"), ("b",)}


async def test_a_hanging_backend(autojump_clock: Clock) -> None:
    """It answers polls but no chat; each client waits 2 s at most, and then none is sent there."""
    async with open_scenario() as scenario:
        scenario.simulators["b"].load("m1", -1)
        scenario.simulators["a"].load("m1", -1)
        await scenario.poll()
        scenario.simulators["a"].script(Script(hang_after=0), times=None)
        waits, orders = [], []
        for _ in range(FAILURES + 1):
            began = trio.current_time()
            reply = await scenario.ask()
            waits.append((reply.first_chunk_at or 0) - began)
            orders.append(asked(scenario))
        await trio.testing.wait_all_tasks_blocked()
        gone = [seen.gone_at for seen in scenario.simulators["a"].seen if seen.path == "/api/chat"]

    assert waits == [2, 2, 2, 0]
    assert orders == [["a", "b"]] * FAILURES + [["b"]]
    assert gone == [2, 4, 6]


async def test_a_model_that_is_listed_and_not_there(autojump_clock: Clock) -> None:
    """A 404 for the listed spelling takes the model off the list until the next poll."""
    async with open_scenario() as scenario:
        scenario.simulators["a"].ghost("m1")
        assert (await scenario.ask(body=FULL_NAME)).text == "Hello"
        assert asked(scenario) == ["a", "b"]
        assert (await scenario.ask(body=FULL_NAME)).text == "Hello"
        assert asked(scenario) == ["b"]
        await scenario.poll()
        await scenario.ask(body=FULL_NAME)

    assert asked(scenario) == ["a", "b"]


async def test_a_404_for_another_spelling_says_nothing_of_the_list(autojump_clock: Clock) -> None:
    """The backend may not understand the name, so the model stays listed."""
    async with open_scenario() as scenario:
        scenario.simulators["a"].ghost("m1")
        for _ in range(2):
            await scenario.ask()
            assert asked(scenario) == ["a", "b"]


async def test_a_backend_that_says_when_to_come_back(autojump_clock: Clock) -> None:
    """Its `Retry-After` is kept to the second, and its breaker stays closed."""
    async with open_scenario() as scenario:
        busy = Script(status=503, error="busy", headers=(("Retry-After", "7"),))
        scenario.simulators["a"].script(busy)
        await scenario.ask()
        assert asked(scenario) == ["a", "b"]
        await trio.sleep(6.9)
        await scenario.ask()
        assert asked(scenario) == ["b"]
        await trio.sleep(0.1)
        await scenario.ask()

    assert asked(scenario) == ["a"]


async def test_a_cold_backend_beside_a_warm_one_that_is_full(autojump_clock: Clock) -> None:
    """Requests go to the warm one while it has a slot, then to the cold one, then into line."""
    async with open_scenario(models=(SLOW,), slots=1, is_one_tier=True) as scenario:
        scenario.simulators["b"].load("m1", -1)
        await scenario.poll()
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(scenario.ask)
                await trio.sleep(0.25)

    assert [[attempt.backend for attempt in record.attempts] for record in scenario.records] == [
        ["b"],
        ["a"],
        ["b"],
    ]
    assert [record.attempts[0].started for record in scenario.records] == [0, 0, 2.5]


async def test_a_body_that_gets_500_everywhere(autojump_clock: Clock) -> None:
    """It opens no breaker and changes no order, and the client gets the error."""
    async with open_scenario() as scenario:
        for simulator in scenario.simulators.values():
            simulator.script(Script(status=500, error="cannot do that"), times=10)
        for _ in range(10):
            reply = await scenario.ask()
            assert (reply.status, reply.document) == (500, {"error": "cannot do that"})
            assert asked(scenario) == ["a", "b"]
            await trio.sleep(1)
        await scenario.ask()

    assert asked(scenario) == ["a"]


async def test_a_backend_that_cuts_its_answers(autojump_clock: Clock) -> None:
    """A break after the first chunk counts too, and the fourth client is served elsewhere."""
    async with open_scenario() as scenario:
        scenario.simulators["a"].script(Script(cut_after=1), times=None)
        for _ in range(FAILURES):
            assert not (await scenario.ask()).is_complete
            assert asked(scenario) == ["a"]
        assert (await scenario.ask()).is_complete

    assert asked(scenario) == ["b"]


async def test_a_backend_that_stops_in_the_middle(autojump_clock: Clock) -> None:
    """The deadline between two chunks counts against the backend too."""
    async with open_scenario(settings={"GATEWAY_RACE_IDLE_TIMEOUT": "1s"}) as scenario:
        scenario.simulators["a"].script(Script(hang_after=1), times=None)
        for _ in range(FAILURES):
            assert not (await scenario.ask()).is_complete
        assert (await scenario.ask()).is_complete

    assert asked(scenario) == ["b"]


async def test_dripped_headers_and_endless_interim_answers_are_cut(autojump_clock: Clock) -> None:
    """The deadline of the first chunk covers everything before it."""
    drip = b"HTTP/1.1 200 OK\r\n" + b"x-a: b\r\n" * 1000
    interim = b"HTTP/1.1 102 Processing\r\n\r\n" * 10_000
    settings = {"GATEWAY_RACE_FIRST_CHUNK_TIMEOUT": "9s", "GATEWAY_RACE_HEDGE_AFTER": "off"}
    for raw in (drip, interim):
        async with open_scenario(
            {"a": Simulator([Model("m1:latest")])}, settings=settings
        ) as scenario:
            scenario.simulators["a"].script(Script(raw=raw, drip=0.1))
            reply = await scenario.ask()

            assert (reply.status, reply.ended_at) == (504, trio.current_time())
            assert outcome(scenario) == ("timed_out", "first_chunk_timeout")


async def test_a_queued_client_that_leaves(autojump_clock: Clock) -> None:
    """No backend gets the request, and the record says `client_gone`."""
    async with (
        open_scenario({"a": Simulator([SLOW])}, slots=1) as scenario,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(scenario.ask)
        await trio.testing.wait_all_tasks_blocked()
        await scenario.ask(leave_at=0.5)

    assert len([s for s in scenario.simulators["a"].seen if s.path == "/api/chat"]) == 1
    left = scenario.records[0]
    assert (left.outcome, left.attempts, left.duration) == ("client_gone", [], 0.5)


async def test_a_drain_sends_the_line_away(autojump_clock: Clock) -> None:
    """Waiting requests get a 503 at once, while a running stream goes on to its end."""
    async with (
        open_scenario({"a": Simulator([SLOW])}, slots=1) as scenario,
        trio.open_nursery() as nursery,
    ):

        async def drain() -> None:
            await trio.sleep(1.5)
            scenario.gateway.backends.line.close()

        nursery.start_soon(drain)
        nursery.start_soon(scenario.ask)
        await trio.testing.wait_all_tasks_blocked()
        reply = await scenario.ask()

    assert (reply.status, reply.ended_at) == (503, 1.5)
    assert "retry-after" in reply.headers
    assert [(record.outcome, record.reason) for record in scenario.records] == [
        ("refused", "draining"),
        ("completed", None),
    ]


async def test_a_route_that_a_backend_lacks_is_not_a_model_that_it_lacks(
    autojump_clock: Clock,
) -> None:
    """An older Ollama's 404 for a path leaves its models in the lists."""
    head = b"HTTP/1.1 404 Not Found\r\ncontent-type: text/plain\r\ncontent-length: 18\r\n\r\n"
    async with open_scenario() as scenario:
        for simulator in scenario.simulators.values():
            simulator.script(
                Script(raw=head + b"404 page not found"), path="/api/embed", times=None
            )
        reply = await scenario.ask("/api/embed", {"model": "m1:latest", "input": "a"})
        assert reply.status == 403

        assert (await scenario.ask()).status == 200
        assert [len(b.listing.models) for b in scenario.gateway.backends.all if b.listing] == [1, 1]


async def test_a_backend_that_hangs_on_whole_answers(autojump_clock: Clock) -> None:
    """The total deadline counts against it too, and the fourth request goes elsewhere."""
    async with open_scenario(settings={"GATEWAY_RACE_TOTAL_TIMEOUT": "10s"}) as scenario:
        scenario.simulators["a"].script(Script(hang_after=0), times=None)
        for _ in range(FAILURES):
            assert (await scenario.ask(body={**CHAT, "stream": False})).status == 504
        assert (await scenario.ask(body={**CHAT, "stream": False})).status == 200

    assert asked(scenario) == ["b"]


async def test_a_prompt_on_which_a_model_repeats_itself_opens_nothing(
    autojump_clock: Clock,
) -> None:
    """Ollama ends such a stream without a marker, which counts against no backend."""
    async with open_scenario() as scenario:
        scenario.simulators["a"].script(Script(no_done=True), times=10)
        for _ in range(10):
            assert (await scenario.ask()).is_complete
            assert asked(scenario) == ["a"]


async def test_a_backend_that_breaks_every_answer_off_is_left_alone_for_longer_and_longer(
    autojump_clock: Clock,
) -> None:
    """Its first chunks do not reset the growth of the breaker's wait."""
    async with open_scenario() as scenario:
        scenario.simulators["a"].script(Script(cut_after=1), times=None)
        broken = 0
        for _ in range(1200):
            broken += not (await scenario.ask()).is_complete
            await trio.sleep(0.1)

    assert broken <= FAILURES + 7


async def test_a_restart_ends_a_backoff(autojump_clock: Clock) -> None:
    """The process that said it is full for a minute is gone."""
    async with open_scenario() as scenario:
        backend = scenario.gateway.backends.all[0]
        busy = Script(status=503, error="busy", headers=(("Retry-After", "3600"),))
        scenario.simulators["a"].script(busy)
        await scenario.ask()
        for _ in range(3):
            scenario.gateway.backends.failed(backend, "no answer")
        await scenario.poll()
        await scenario.ask()

    assert asked(scenario) == ["a"]
