"""The first use of a key, by many requests at once: its limits hold from the first one."""

from __future__ import annotations

from collections import Counter
from functools import partial
from itertools import cycle, islice
from threading import Barrier

from ollama_gateway.keys.key import KeyLimits
from tests.campaign.client import LIMITED, OK, UNAVAILABLE, Request, eventually, sent
from tests.campaign.conftest import Note
from tests.campaign.sizes import Sizes
from tests.smoke.fleet import Fleet

ADMITTED = 10
GENERATION = 100
PROMPT = 11
"""Tokens that the simulator counts for each prompt."""


def burst(fleet: Fleet, text: str, count: int, model: str = "quick:1") -> list[Request]:
    """Open requests through all gateways, which are sent once all are connected."""
    make = partial(
        Request, key=text, model=model, generation=GENERATION, streams=True, start=Barrier(count)
    )
    return [make(gateway.port) for gateway in islice(cycle(fleet.gateways), count)]


def admitted(requests: list[Request], note: Note) -> tuple[int, int]:
    """Return how many were admitted, and how many more with a store that always answered."""
    statuses = Counter(request.status for request in requests)
    note(", ".join(f"{count} times {status}" for status, count in statuses.items()))
    assert statuses.keys() <= {OK, LIMITED, UNAVAILABLE}
    assert statuses[LIMITED]
    return statuses[OK], statuses[UNAVAILABLE]


def test_a_rate(shared: Fleet, sizes: Sizes, note: Note) -> None:
    """Of all requests at once, exactly the rate is admitted."""
    _, text = shared.create_key("first rate", KeyLimits(requests_per_minute=ADMITTED))
    with sent(requests := burst(shared, text, sizes.burst)):
        pass
    count, unknown = admitted(requests, note)
    assert ADMITTED - unknown <= count <= ADMITTED


def test_a_concurrency(shared: Fleet, sizes: Sizes, note: Note) -> None:
    """Of all requests at once, as many get in as there are places, and all places come back."""
    key, text = shared.create_key("first places", KeyLimits(concurrent_requests=ADMITTED))
    with sent(requests := burst(shared, text, sizes.burst, "slow:1")):
        eventually(lambda: all(request.status for request in requests))
        for request in requests:
            if request.status == OK:
                request.leave()
    count, unknown = admitted(requests, note)
    assert ADMITTED - unknown <= count <= ADMITTED
    assert shared.figures("slow").most_in_flight == count
    eventually(lambda: shared.gateways[0].used(key.id) == {"concurrency": 0})


def test_a_budget(shared: Fleet, sizes: Sizes, note: Note) -> None:
    """All requests at once are served no more than the budget, and charged for just that."""
    bound = Request(0, "", "quick:1", GENERATION, streams=True).bound
    budget = ADMITTED * bound + bound - 1
    key, text = shared.create_key("first budget", KeyLimits(tokens_per_month=budget))
    with sent(requests := burst(shared, text, sizes.burst)):
        pass
    count, unknown = admitted(requests, note)
    served = sum(request.tokens for request in requests if request.status == OK)
    assert ADMITTED - unknown <= count
    assert served == count * (PROMPT + GENERATION) <= budget
    eventually(lambda: all(one.used(key.id) == {"month": served} for one in shared.gateways))
