"""Requests in flight as documents: their order, their pages, their filters."""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio.testing

from ollama_gateway.control import requests
from ollama_gateway.control.errors import NoSuchThing, WrongInput
from ollama_gateway.control.requests import RunningFilter
from ollama_gateway.flow.in_flight import InFlight
from ollama_gateway.ledger.attempted import Attempt
from ollama_gateway.reasons import Reason
from ollama_gateway.turns import run_through
from tests.control.running import begun

Clock = trio.testing.MockClock
pytestmark = pytest.mark.virtual_time


def ids(
    in_flight: InFlight, wanted: RunningFilter | None = None, limit: int = 1000
) -> list[list[str]]:
    """Return the ids on each page, of all pages."""
    pages: list[list[str]] = []
    cursor: str | None = None
    while not pages or cursor is not None:
        work = requests.listed(in_flight, wanted or RunningFilter(), limit=limit, cursor=cursor)
        page = run_through(work)
        pages.append([item["id"] for item in page["items"]])
        cursor = page["next"]
    return pages


async def test_a_document() -> None:
    """It has what an operator needs to know, and neither a prompt nor a key's text."""
    in_flight = InFlight()
    attempts = [
        Attempt("a", 0.0, reason=Reason.CONNECT_FAILED),
        Attempt("b", 0.25, is_hedge=True, first_chunk=0.5),
    ]
    known: dict[str, Any] = {
        "end_user": "ada",
        "model": "m1:latest",
        "alias": "gpt",
        "backend": "b",
    }
    running = begun(
        in_flight, "r1", attempts=attempts, ttft=0.5, chunks=7, text=40, admitted=0.0, **known
    )
    running.began = 1_767_323_045_000_006
    await trio.sleep(2.5)

    found = requests.shown(in_flight, "r1")

    assert found == {
        "id": "r1",
        "key_id": "k1",
        "key_name": "name of k1",
        **known,
        "client": "192.0.2.7",
        "endpoint": "/api/chat",
        "stage": "streaming",
        "started_at": "2026-01-02T03:04:05.000006Z",
        "age_s": 2.5,
        "tokens": 10,
        "chunks": 7,
        "attempts": [
            {"backend": "a", "started_ms": 0.0, "hedge": False, "reason": "connect_failed"},
            {"backend": "b", "started_ms": 250.0, "hedge": True, "reason": None},
        ],
        "cancelled_by": None,
        "process": None,
    }
    assert json.loads(json.dumps(found)) == found
    with pytest.raises(NoSuchThing):
        requests.shown(in_flight, "r2")


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 8, 100])
async def test_pages(limit: int) -> None:
    """The oldest come first, and each request is on one page, however large the pages are."""
    in_flight = InFlight()
    for number in range(7):
        begun(in_flight, f"r{number}").began = 1000 + number // 2  # two in the same microsecond

    pages = ids(in_flight, limit=limit)

    assert [one for page in pages for one in page] == [f"r{number}" for number in range(7)]
    assert {len(page) for page in pages[:-1]} <= {limit}


async def test_a_page_after_others_have_ended_and_begun() -> None:
    """A cursor goes on where it stopped, also when the last request of its page has ended."""
    in_flight = InFlight()
    all_of_them = [begun(in_flight, f"r{number}") for number in range(4)]
    for number, running in enumerate(all_of_them):
        running.began = 1000 + number
    page = run_through(requests.listed(in_flight, RunningFilter(), limit=2, cursor=None))
    in_flight.end(all_of_them[0])
    in_flight.end(all_of_them[1])
    begun(in_flight, "r4").began = 2000

    rest = requests.listed(in_flight, RunningFilter(), limit=9, cursor=page["next"])

    assert [item["id"] for item in run_through(rest)["items"]] == ["r2", "r3", "r4"]


@pytest.mark.parametrize(
    "cursor",
    ["", "/", "x", "x/y", "2026-01-02T03:04:05Z", "2026-01-02T03:04:05/r", "9" * 99 + "/r"],
)
async def test_what_is_no_cursor(cursor: str) -> None:
    """It is refused, in words that repeat none of it."""
    with pytest.raises(WrongInput) as refused:
        run_through(requests.listed(InFlight(), RunningFilter(), limit=1, cursor=cursor))
    assert str(refused.value) == "cursor: is not one that this list gave"


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (RunningFilter(), ["line", "racing", "reading", "streaming"]),
        (RunningFilter(key="k2"), ["racing"]),
        (RunningFilter(key="name of k2"), ["racing"]),
        (RunningFilter(key=""), []),
        (RunningFilter(model="M1"), ["line", "streaming"]),
        (RunningFilter(model="gpt"), ["racing"]),
        (RunningFilter(model="m 1"), []),
        (RunningFilter(backend="a"), ["streaming"]),
        (RunningFilter(backend="b"), ["racing"]),
        (RunningFilter(stage="line"), ["line"]),
        (RunningFilter(stage="none"), []),
        (RunningFilter(key="k1", model="m1", stage="line"), ["line"]),
    ],
)
async def test_filters(wanted: RunningFilter, found: list[str]) -> None:
    """A request matches if it agrees with all values; a failed attempt is at no backend."""
    in_flight = InFlight()
    failed = Attempt("a", 0.0, reason=Reason.CONNECT_FAILED)
    begun(in_flight, "reading")
    begun(in_flight, "line", model="m1:latest", admitted=0.0)
    begun(in_flight, "streaming", model="m1:latest", backend="a", ttft=1.0)
    racing = [failed, Attempt("b", 0.1)]
    begun(in_flight, "racing", key="k2", model="m2:latest", alias="gpt", attempts=racing)

    assert sorted(ids(in_flight, wanted)[0]) == found


async def test_one_whose_key_is_not_known_is_left_out() -> None:
    """It is neither listed, nor shown, nor cancelled."""
    in_flight = InFlight()
    begun(in_flight, "r1")
    unknown = in_flight.begin("r2", trio.CancelScope())

    assert ids(in_flight) == [["r1"]]
    with pytest.raises(NoSuchThing):
        requests.shown(in_flight, "r2")
    with pytest.raises(NoSuchThing):
        requests.cancel(in_flight, "r2", "eva")
    assert not unknown.scope.cancel_called


async def test_a_list_of_many_is_made_in_steps() -> None:
    """No step looks at more than a bounded number of requests, nor renders more."""
    in_flight = InFlight()
    for number in range(5000):
        begun(in_flight, f"r{number:04}")

    steps = sum(1 for _ in requests.listed(in_flight, RunningFilter(), limit=1000, cursor=None))

    assert steps == 5000 // requests.STEP + 1000 // requests.STEP


async def test_what_the_audit_log_says_of_a_cancel() -> None:
    """Who cancelled what, and how it was then; of a key, how many, and the first of their ids."""
    in_flight = InFlight()
    for number in range(1001):
        begun(in_flight, f"r{number:04}", key="k1" if number else "k2")
    one, is_first = requests.cancel(in_flight, "r0000", "eva")
    again = requests.cancel(in_flight, "r0000", "adam")
    change = requests.change_of_one(one, "eva")
    begun(in_flight, "r1001")
    cancelled = requests.cancel_all_of(in_flight, "k1", "eva")
    of_key = requests.change_of_key("k1", cancelled, "eva")

    assert (change.by, change.action, change.target) == ("eva", "requests.cancel", "r0000")
    assert (change.before, change.after) == (one, None)
    assert (is_first, again) == (True, (one, False))
    assert (one["key_id"], one["cancelled_by"]) == ("k2", "eva")
    assert (of_key.action, of_key.target) == ("requests.cancel_key", "k1")
    assert of_key.before == {"count": 1001, "ids": cancelled[:1000]}
