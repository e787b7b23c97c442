"""The effects of attempts: counts, options and breakers, and when they are forgotten."""

from __future__ import annotations

import trio
import trio.testing

from ollama_gateway.backends.breaker import FAILURES, FIRST_WAIT, JITTER
from ollama_gateway.backends.catalog import Listing
from ollama_gateway.backends.occupancy import Slot
from ollama_gateway.wire.load_options import LoadOptions
from ollama_gateway.wire.names import ModelName
from tests.backends.test_catalog import entry, listing
from tests.flow.racing import GOOD, M, RacePlan, Track, failed, unreachable

Clock = trio.testing.MockClock
HEALTHY: RacePlan = {"a": (0, GOOD), "b": (0, GOOD)}
BIG: LoadOptions = (("num_ctx", 32768),)


async def test_the_options_of_the_last_request_are_remembered(autojump_clock: Clock) -> None:
    """Among equals, the backend that loaded the model with the same options is asked first."""
    track = Track("a", "b", priorities={"a": 1, "b": 1})
    track.backends.pause({"a"})
    await track.run(HEALTHY, load_options=BIG)
    track.backends.pause(())

    assert (await track.run(HEALTHY, load_options=BIG)).won == "b"
    assert (await track.run(HEALTHY)).won == "a"


async def test_only_streamed_answers_are_timed(autojump_clock: Clock) -> None:
    """The only chunk of a whole answer tells nothing about first chunks."""
    track = Track("a", after="auto")
    await track.run({"a": (2, GOOD)})
    await track.run({"a": (60, GOOD)}, is_streamed=False)
    await track.run({"a": (60, GOOD)}, is_slotless=True, is_streamed=False)

    assert list(track.by_name["a"].health_of(M).first_chunks) == [2]


async def test_a_slotless_request_says_nothing_of_the_model(autojump_clock: Clock) -> None:
    """A slotless request does not touch the model's breaker, and an open one does not stop it."""
    track = Track("a", "b")
    for _ in range(FAILURES):
        await track.run({"a": (0, failed()), "b": (0, GOOD)}, is_slotless=True)
    health = track.by_name["a"].health_of(M)
    assert (health.breaker.failures, health.is_failing) == (0, False)
    for _ in range(FAILURES):
        await track.run({"a": (0, failed()), "b": (0, GOOD)})

    assert (await track.run(HEALTHY, is_slotless=True)).won == "a"
    assert health.breaker.until is not None


async def test_a_backend_that_cannot_be_reached_is_failing_for_all_its_models(
    autojump_clock: Clock,
) -> None:
    """A request that has failed elsewhere goes there only on the retry budget."""
    track = Track("a", "b")
    await track.run({"a": (0, failed()), "b": (0, unreachable())})
    while track.rules.retries.pay(trio.current_time()):
        pass

    assert (await track.run({"a": (0, failed()), "b": (0, GOOD)})).started == {"a": 0}


async def test_names_that_nobody_lists_share_one_health(autojump_clock: Clock) -> None:
    """All unlisted names share one health, so invented cloud names use no memory."""
    backend = Track("a").by_name["a"]
    for number in range(1000):
        backend.health_of(ModelName.parse(f"m{number}:cloud"))

    assert len(backend.health) == 1


async def test_a_model_that_is_gone_is_forgotten(autojump_clock: Clock) -> None:
    """An unlisted model loses its health, and the others keep theirs."""
    track = Track("a")
    backend = track.by_name["a"]
    other = ModelName.parse("other:1")
    track.backends.polled(backend, listing(entry("m:1"), entry("other:1")), 0)
    kept, gone = backend.health_of(M), backend.health_of(other)

    track.backends.polled(backend, listing(entry("m:1")), 1)
    track.backends.polled(backend, listing(entry("m:1"), entry("other:1")), 2)

    assert backend.health_of(M) is kept
    assert backend.health_of(other) is not gone


async def test_a_poll_that_finds_the_model_serves_the_line(autojump_clock: Clock) -> None:
    """A request that waits for a full backend goes to the one that has just got the model."""
    track = Track("a", "b", slots=1)
    track.backends.polled(track.by_name["b"], listing(), 0)
    track.by_name["a"].in_flight = 1
    async with trio.open_nursery() as nursery:

        async def pull() -> None:
            await trio.sleep(3)
            models = {M.key: entry("m:1")}
            track.backends.polled(track.by_name["b"], Listing("0.33.0", models, {}), 3)

        nursery.start_soon(pull)
        outcomes = await track.run(HEALTHY)

    assert outcomes.started == {"b": 3}


async def test_a_probe_that_answers_serves_the_line(autojump_clock: Clock) -> None:
    """When a probe answers, the requests that wait for the full backend follow at once."""
    track = Track("a", "b")
    for _ in range(FAILURES):
        await track.run({"a": (0, failed()), "b": (0, GOOD)})
    await trio.sleep(FIRST_WAIT * (1 + JITTER))
    track.by_name["b"].slots = track.by_name["b"].in_flight = 1
    async with trio.open_nursery() as nursery:

        async def probe() -> None:
            await track.run({"a": (2, GOOD)}, holds=100)

        nursery.start_soon(probe)
        await trio.testing.wait_all_tasks_blocked()
        outcomes = await track.run({"a": (0, GOOD)})

    assert outcomes.started == {"a": 2}


async def test_a_slot_is_given_back_once(autojump_clock: Clock) -> None:
    """Releasing a slot twice frees no other attempt's place."""
    track = Track("a")
    slot = Slot.take(track.backends, track.by_name["a"], M, 0)
    other = Slot.take(track.backends, track.by_name["a"], M, 0)
    slot.release()
    slot.release()
    assert track.by_name["a"].in_flight == 1
    other.release()
    track.assert_idle()
