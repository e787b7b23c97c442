"""Keys that are made and changed over the admin API of several processes keep their limits."""

from __future__ import annotations

import json
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Final

from tests.campaign.client import LIMITED, OK, Request, eventually
from tests.campaign.conftest import SIMULATORS, Note
from tests.campaign.sizes import Sizes
from tests.smoke.fleet import PATIENCE, Fleet, fleet
from tests.support.redis_server import redis_server

TOKEN: Final = "operators-only-token"
MODEL: Final = "quick:1"
EACH: Final = 4
"""Clients of each key."""
GENERATION: Final = 50
"""Tokens of each answer."""
BUDGET: Final = 1500
"""Tokens of each key."""
UNAUTHORIZED: Final = 401


def changed(started: Fleet, path: str, body: object = None) -> Any:
    """Make a change at the admin API; return the answer."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{started.gateways[0].admin_port}/admin/v1{path}",
        b"" if body is None else json.dumps(body).encode(),
        {"authorization": f"Bearer {TOKEN}"},
    )
    with urllib.request.urlopen(request, timeout=PATIENCE) as response:  # noqa: S310 - an address of our own
        return json.load(response)


def until_refused(make: partial[Request]) -> list[Request]:
    """Ask until the key has no tokens left; return the requests."""
    found = [make().send()]
    while found[-1].status == OK:
        found.append(make().send())
    return found


def test_keys_made_over_the_api_keep_their_budgets(
    tmp_path: Path, sizes: Sizes, note: Note
) -> None:
    """Each key gets the budget of a change of all and no token more, and nothing once revoked."""
    simulators = {"quick": SIMULATORS["quick"]}
    with (
        redis_server() as url,
        fleet(
            tmp_path,
            simulators,
            GATEWAY_REDIS_URL=url,
            GATEWAY_SERVER_PROCESSES="2",
            GATEWAY_SERVER_ADMIN_TOKEN=TOKEN,
        ) as started,
    ):
        poor = {"limits": {"tokens_per_month": 1}}
        names = [f"student-{number}" for number in range(sizes.at_once // EACH)]
        made = [changed(started, "/keys", {"name": name, **poor}) for name in names]
        enough = {"limits": {"tokens_per_month": BUDGET}}
        done = changed(started, "/keys/update", {"match": "student-*", "changes": enough})

        make = [partial(Request, started.port, one["key"], MODEL, GENERATION) for one in made]
        with ThreadPoolExecutor(sizes.at_once) as pool:
            found = list(pool.map(until_refused, [one for one in make for _ in range(EACH)]))
        for one in made:
            changed(started, f"/keys/{one['id']}/revoke")
        eventually(lambda: all(one().send().status == UNAUTHORIZED for one in make))

    requests = [request for several in found for request in several]
    served = {one["key"]: 0 for one in made}
    for request in requests:
        assert request.status in {OK, LIMITED}
        served[request.key] += request.tokens if request.status == OK else 0
    note(f"{len(names)} keys of {BUDGET} tokens, {len(requests)} asked: {sorted(served.values())}")
    assert len(done["changed"]) == len(names)
    # a refused client may have met reservations of the other clients of its key
    least = BUDGET - EACH * requests[0].bound
    assert all(least <= tokens <= BUDGET for tokens in served.values()), served
