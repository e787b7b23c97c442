"""Places under clients that come, are refused, and leave: never one too many, none lost."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from ollama_gateway.keys.key import KeyLimits
from tests.campaign.client import Request, eventually, until_served
from tests.campaign.conftest import Note
from tests.campaign.sizes import Sizes
from tests.smoke.fleet import PATIENCE, Fleet

PLACES = 4
TOKENS = 10
"""Tokens of each answer, which takes 0.1 s."""
LONGEST = 0.25
"""Half of the clients that leave do so within this many seconds; the others leave in the answer."""


def test_no_more_than_four_at_once(shared: Fleet, sizes: Sizes, note: Note) -> None:
    """A client that leaves gives back its place once the backend is free."""
    gateways = shared.gateways[:2]
    key, text = shared.create_key("places", KeyLimits(concurrent_requests=PLACES))

    def client(seed: int) -> list[Request]:
        random_ = random.Random(seed)  # noqa: S311 - to be repeatable
        make = partial(Request, key=text, model="places:1", generation=TOKENS, streams=True)
        if seed % 6 == 0:
            make = partial(make, leaves_after=random_.uniform(0, LONGEST))
        elif seed % 6 == 3:
            make = partial(make, leaves_at=random_.randint(1, TOKENS))

        def request() -> Request:
            return make(random_.choice(gateways).port)

        return list(until_served(request, PATIENCE, random_))

    with ThreadPoolExecutor(sizes.clients) as pool:
        asked = list(pool.map(client, range(sizes.clients)))

    figures, last = shared.figures("places"), [requests[-1] for requests in asked]
    left = [request for request in last if request.has_left]
    note(
        f"at most {figures.most_in_flight} at once, {figures.requests} served,"
        f" {sum(map(len, asked))} asked; {len(left)} of {len(asked)} clients left,"
        f" {sum(bool(request.chunks) for request in left)} of them in the answer"
    )
    assert left
    assert all(request.has_left or request.is_whole for request in last)
    assert figures.most_in_flight == PLACES
    eventually(lambda: all(gateway.used(key.id) == {"concurrency": 0} for gateway in gateways))
    eventually(lambda: all(one.status()["limits"]["requests"] == 0 for one in gateways))
