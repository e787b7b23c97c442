"""The audit log over the admin API: pages, one record, sums; also large pages and wrong filters."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import trio
import trio.testing

from ollama_gateway.control.audit import audit_page
from ollama_gateway.ledger.read.audit_log import AuditPlace
from ollama_gateway.ledger.read.filtering import ALL
from ollama_gateway.server.admin_api.encoding import encoded
from tests.control.test_models import longest_step
from tests.ledger.audit_logs import ended, written
from tests.server.admin_api.asking import asked, got, open_admin, problem_of
from tests.support.scenario import Scenario

Clock = trio.testing.MockClock


async def chats(scenario: Scenario, count: int) -> list[str]:
    """Have chats answered; return the ids of their requests."""
    for _ in range(count):
        await scenario.ask()
    await trio.sleep(1)  # they are written in the background
    return [record.request_id for record in scenario.records[-count:]]


def ids(page: dict[str, Any]) -> list[str]:
    """Return the ids of the records on a page."""
    return [record["request_id"] for record in page["items"]]


async def test_pages_follow_each_other_to_the_end_and_beyond(autojump_clock: Clock) -> None:
    """No record is missed or repeated, also of those that come after the last page."""
    async with open_admin() as scenario:
        first = await chats(scenario, 5)
        one = await got(scenario, "/audit?limit=2")
        two = await got(scenario, f"/audit?limit=2&cursor={one['next']}")
        three = await got(scenario, f"/audit?limit=2&cursor={two['next']}")
        none = await got(scenario, f"/audit?cursor={three['position']}")
        later = await chats(scenario, 1)
        new = await got(scenario, f"/audit?cursor={three['position']}")

    assert [ids(page) for page in (one, two, three)] == [first[:2], first[2:4], first[4:]]
    assert (three["next"], none["items"], none["next"]) == (None, [], None)
    assert ids(new) == later
    assert new["faults"] == []


async def test_the_newest_come_in_the_same_order(autojump_clock: Clock) -> None:
    """The newest records are asked for by their number; a page goes on where they end."""
    async with open_admin() as scenario:
        first = await chats(scenario, 5)
        newest = await got(scenario, "/audit?newest=true&limit=2")
        later = await chats(scenario, 1)
        new = await got(scenario, f"/audit?cursor={newest['position']}")

    assert (ids(newest), newest["next"]) == (first[3:], None)
    assert ids(new) == later


async def test_filters_are_those_of_the_command(autojump_clock: Clock) -> None:
    """Each filter selects; one that matches nothing is an empty page, not an error."""
    async with open_admin() as scenario:
        (good,) = await chats(scenario, 1)
        refused = {"model": "none", "messages": []}
        await scenario.ask(body=refused)
        await trio.sleep(1)
        bad = scenario.records[-1].request_id

        async def found(query: str) -> list[str]:
            return ids(await got(scenario, f"/audit?{query}"))

        assert await found("outcome=completed") == [good]
        assert await found("reason=unknown_model") == [bad]
        assert await found("key=tester") == [good, bad]
        assert await found("model=M1&backend=a&endpoint=/api/chat") == [good]
        assert await found("since=1h") == [good, bad]
        assert await found("until=2020-01-01") == []
        assert await found("outcome=killed") == []
        assert await found("reason=budget") == []


async def test_one_record(autojump_clock: Clock) -> None:
    """A record is found by the id that the client got; an unknown one is a 404."""
    async with open_admin() as scenario:
        (request_id,) = await chats(scenario, 1)
        record = await got(scenario, f"/audit/{request_id}")
        unknown = await asked(scenario, "GET", "/audit/nope")

    assert (record["request_id"], record["backend"]) == (request_id, "a")
    assert problem_of(unknown) == (404, 'no request "nope" is recorded')


async def test_usage_is_summed_up_in_pages(autojump_clock: Clock) -> None:
    """Groups are those of `gatewayctl usage --json`, and a page says how to go on."""
    async with open_admin() as scenario:
        await chats(scenario, 2)
        await scenario.ask(body={"model": "none", "messages": []})
        await trio.sleep(1)
        by_key = await got(scenario, "/usage")
        first = await got(scenario, "/usage?by=model,outcome&per=day&limit=1")
        second = await got(scenario, f"/usage?by=model,outcome&per=day&cursor={first['next']}")

    (one,) = by_key["items"]
    assert (one["key_name"], one["requests"], one["refused"]) == ("tester", 3, 1)
    assert (first["groups"], second["next"]) == (2, None)
    groups = [*first["items"], *second["items"]]
    assert [(group["model"], group["outcome"]) for group in groups] == [
        ("m1:latest", "completed"),
        ("none:latest", "refused"),
    ]


@pytest.mark.parametrize(
    ("path", "status", "detail"),
    [
        ("/audit?key=testr", 404, 'no key "testr" is known (did you mean tester?)'),
        ("/audit?model=m2:latest", 404, "did you mean m1:latest?"),
        ("/audit?backend=c", 404, 'no backend "c" is known'),
        ("/usage?key=testr", 404, "did you mean tester?"),
        ("/audit?outcome=good", 422, "outcome: is not one of"),
        ("/audit?since=soon", 422, 'since: "soon" is neither a duration'),
        ("/audit?since=1h&until=2h", 422, "until: must be later than since"),
        ("/audit?cursor=c1-x", 422, 'cursor: "c1-x" is no cursor'),
        ("/audit?cursor=x&newest=true", 422, "newest: does not go with a cursor"),
        ("/audit?limit=1001", 422, "limit: is not from 1 to 1000"),
        ("/usage?by=colour", 422, 'by: "colour" is not one of key, end-user'),
        ("/usage?by=key,key", 422, "by: names one thing twice"),
        ("/usage?by=key,model,day", 422, "by: takes 2 at most"),
        ("/usage?per=year", 422, "per: is not one of day, month"),
        ("/usage?cursor=x", 422, "cursor: is not one that this list gave"),
        (f"/audit?key={quote(chr(0))}", 404, "no key"),
        (f"/audit/{quote(chr(0))}", 404, "is recorded"),
    ],
)
async def test_what_is_wrong_is_named(
    autojump_clock: Clock, path: str, status: int, detail: str
) -> None:
    """A name that is known nowhere is a 404 with the nearest one; a wrong value is a 422."""
    async with open_admin() as scenario:
        await chats(scenario, 1)
        found = problem_of(await asked(scenario, "GET", path))

    assert found[0] == status
    assert detail in found[1]


def test_a_page_of_a_thousand_records_is_encoded_in_short_steps(tmp_path: Path) -> None:
    """A page of 1,000 records is read in a thread, and no step of its JSON takes 20 ms of CPU."""
    written(tmp_path, [ended(f"r{number}", number) for number in range(1500)])
    page = audit_page(AuditPlace(tmp_path), ALL, 1000, cursor=None, newest=False)
    rest = audit_page(AuditPlace(tmp_path), ALL, 1000, cursor=page["next"], newest=False)

    assert [len(page["items"]), len(rest["items"]), rest["next"]] == [1000, 500, None]
    assert min(longest_step(encoded(page)) for _ in range(3)) < 0.02
