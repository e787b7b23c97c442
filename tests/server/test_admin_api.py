"""The admin API's manners: who may, hostile input, errors, entity tags and pages."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.server.admin_asking import PROBLEM, TOKEN, Operator
from tests.support.scenario import Reply, Scenario, open_scenario

pytestmark = pytest.mark.virtual_time


@pytest.fixture
async def operator() -> AsyncIterator[Operator]:
    """An operator with the token of the settings."""
    async with open_scenario(settings={"GATEWAY_SERVER_ADMIN_TOKEN": TOKEN}) as opened:
        yield Operator(opened)


def id_of(number: int) -> str:
    """Return the id of a key: ids have letters and the digits from 2 to 7."""
    return f"aaaaaa{'abcde'[number // 5]}{'abcde'[number % 5]}"


def check_problem(reply: Reply, status: int) -> Any:
    """Check that an answer is a whole one with problem details; return them."""
    document = reply.document
    assert (reply.status, document["status"]) == (status, status), document
    assert reply.headers["content-type"] == PROBLEM
    assert document["request_id"] == reply.headers["x-request-id"]
    assert "\n" not in document["detail"]
    return document


async def test_what_does_not_exist_is_a_problem(operator: Operator) -> None:
    """Unknown paths are 404 and unknown methods 405, each with problem details."""
    for path in ("/", "", "/nothing", "/keys/a/b/c", "/keys/none"):
        check_problem(await operator.ask("GET", path), 404)
    reply = await operator.ask("PUT", "/keys")
    check_problem(reply, 405)

    assert reply.headers["allow"] == "GET, POST"


async def test_strangers_learn_nothing(operator: Operator) -> None:
    """Without the token every path is 401, also one that does not exist; a client's key is none."""
    for path in ("/keys", "/nothing", "/openapi.json"):
        for key in (None, operator.scenario.key, "wrong"):
            reply = await operator.ask("GET", path, key=key)
            check_problem(reply, 401)
            assert reply.headers["www-authenticate"] == "Bearer"


async def test_pages_of_other_sites_are_refused(operator: Operator) -> None:
    """A request by another site's page is 403, one under a foreign name 421; none gets CORS."""
    cross = await operator.ask("GET", "/keys", headers={"sec-fetch-site": "cross-site"})
    check_problem(cross, 403)
    check_problem(await operator.ask("GET", "/keys", headers={"host": "evil.example"}), 421)
    reply = await operator.ask("OPTIONS", "/keys", headers={"origin": "https://evil.example"})
    check_problem(reply, 405)

    assert not [name for name in reply.headers if name.startswith("access-control")]


async def test_without_a_token_one_reads_only(scenario: Scenario) -> None:
    """On loopback, with no token set, reads are open and changes are refused."""
    operator = Operator(scenario)
    assert (await operator.ask("GET", "/keys", key=None)).status == 200
    reply = await operator.ask("POST", "/keys", {"name": "a"}, key=None)
    assert reply.status in {401, 403}
    assert [key.name for key in scenario.store.list()] == ["tester"]


@pytest.mark.parametrize(
    ("body", "where"),
    [
        ({"name": 1}, ["/name"]),
        ({}, ["/name"]),
        ({"name": "a", "models": "m"}, ["/models"]),
        ({"name": "a", "models": [1, "m", None]}, ["/models/0", "/models/2"]),
        ({"name": "a", "limits": {"tokens_per_day": True}}, ["/limits/tokens_per_day"]),
        ({"name": "a", "limits": {"tokens_per_day": -1}}, ["/limits/tokens_per_day"]),
        ({"name": "a", "limits": {"tokens_per_day": 1.5}}, ["/limits/tokens_per_day"]),
        ({"name": "a", "limits": {"tokens": 1}}, ["/limits/tokens"]),
        ({"name": "a", "x/y~z": 1}, ["/x~1y~0z"]),
        ({"name": "a", "endpoints": ["all"]}, ["/endpoints/0"]),
        ({"name": "a", "expires_at": "tomorrow"}, ["/expires_at"]),
        ({"name": 1, "models": 2, "x": 3}, ["/name", "/models", "/x"]),
        ({"name": "a", "id": "of-my-own"}, ["/id"]),
    ],
)
async def test_each_wrong_field_is_named(
    operator: Operator, body: object, where: list[str]
) -> None:
    """A body of wrong types is 422 with a pointer to all that is wrong, and makes nothing."""
    found = check_problem(await operator.ask("POST", "/keys", body), 422)

    assert [one["where"] for one in found["problems"]] == where
    assert [key.name for key in operator.scenario.store.list()] == ["tester"]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"[]", 400),
        (b"\xff\xfe", 400),
        (b'{"name": "a", "name": "b"}', 400),
        (b'{"name": NaN}', 400),
        (b"[" * 200_000, 400),
        (b'{"name": ' + b"[" * 5000 + b"]" * 5000 + b"}", 400),
        (b'{"name": "\\ud800"}', 422),
        (b'{"name": "' + b"a" * 1024 * 1024 + b'"}', 413),
        (b'{"name": ' + b"9" * 100_000 + b"}", 400),
    ],
    ids=lambda value: repr(value)[:30],
)
async def test_hostile_bodies_are_refused(operator: Operator, body: bytes, status: int) -> None:
    """A body that is no JSON, too deep, too large or ambiguous is refused with problem details."""
    found = check_problem(await operator.ask("POST", "/keys", body), status)

    assert len(json.dumps(found)) < 2000
    assert [key.name for key in operator.scenario.store.list()] == ["tester"]


async def test_unknown_parameters_are_named(operator: Operator) -> None:
    """Queries are checked as bodies are."""
    for query, where in (
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=x", "limit"),
        ("limit=1&limit=2", "limit"),
        ("nme=a", "nme"),
        ("status=gone", "status"),
        ("cursor=%00", "cursor"),
        ("cursor=W3t9XQ", "cursor"),
        ("&".join(f"a{number}=1" for number in range(60)), "query"),
    ):
        found = check_problem(await operator.ask("GET", f"/keys?{query}"), 422)
        assert where in {one["where"] for one in found["problems"]}, query


async def test_a_change_may_name_what_it_changes(operator: Operator) -> None:
    """With If-Match a change of what has changed since is 412; without, the last one wins."""
    made = await operator.ask("POST", "/keys", {"id": "aaaaaaaa", "name": "a"})
    old = made.headers["etag"]
    changed = await operator.ask(
        "PATCH", "/keys/aaaaaaaa", {"name": "b"}, headers={"if-match": old}
    )
    late = await operator.ask("PATCH", "/keys/aaaaaaaa", {"name": "c"}, headers={"if-match": old})
    check_problem(late, 412)
    bad = await operator.ask("PATCH", "/keys/aaaaaaaa", {"name": "c"}, headers={"if-match": "x"})
    check_problem(bad, 400)
    got = await operator.ask("GET", "/keys/aaaaaaaa")
    forced = await operator.ask("PATCH", "/keys/aaaaaaaa", {"name": "d"})
    star = await operator.ask("PATCH", "/keys/aaaaaaaa", {"name": "e"}, headers={"if-match": "*"})

    assert (changed.status, changed.headers["etag"] != old) == (200, True)
    assert (got.document["name"], got.headers["etag"]) == ("b", changed.headers["etag"])
    assert (forced.document["name"], star.document["name"]) == ("d", "e")


async def test_pages_go_on_where_they_ended(operator: Operator) -> None:
    """Each item comes once, also if the last one of a page is deleted before the next page."""
    for number in range(25):
        await operator.ask("POST", "/keys", {"id": id_of(number), "name": f"n{number}"})
    seen: list[str] = []
    cursor = ""
    while True:
        page = (await operator.ask("GET", f"/keys?name=n*&limit=10{cursor}")).document
        assert len(page["items"]) <= 10
        seen += [item["id"] for item in page["items"]]
        if page["next"] is None:
            break
        await operator.ask("POST", f"/keys/{seen[-1]}/revoke")
        assert (await operator.ask("DELETE", f"/keys/{seen[-1]}")).status == 204
        cursor = f"&cursor={page['next']}"

    assert sorted(seen) == [id_of(number) for number in range(25)]


async def test_a_chosen_id_makes_a_key_once(operator: Operator) -> None:
    """Repeating a client's own id is 409 and makes nothing; the key's text is shown once."""
    first = await operator.ask("POST", "/keys", {"id": "order222", "name": "a"})
    again = await operator.ask("POST", "/keys", {"id": "order222", "name": "b"})
    check_problem(again, 409)
    got = await operator.ask("GET", "/keys/order222")

    assert (first.status, first.headers["location"]) == (201, "/admin/v1/keys/order222")
    assert (await operator.scenario.ask(key=first.document["key"])).status == 200
    assert first.document["key"] not in got.body.decode()
    assert [key.name for key in operator.scenario.store.list()] == ["tester", "a"]


async def test_a_revoked_key_is_refused_at_once(operator: Operator) -> None:
    """The process that changed a key asks the store again for the key's next request."""
    made = (await operator.ask("POST", "/keys", {"id": "aaaaaaaa", "name": "a"})).document
    before = await operator.scenario.ask(key=made["key"])
    await operator.ask("POST", "/keys/aaaaaaaa/revoke")
    after = await operator.scenario.ask(key=made["key"])

    assert (before.status, after.status) == (200, 401)


@pytest.mark.parametrize("changes", [{"expires_at": "AAA"}, {"name": ""}, {"models": [""]}])
async def test_a_wrong_change_of_no_key_is_refused(operator: Operator, changes: object) -> None:
    """A change that no key may have is refused also where no key has such a name."""
    body = {"match": "nothing-*", "changes": changes}

    check_problem(await operator.ask("POST", "/keys/update", body), 422)


async def test_300_keys_are_changed_at_once(operator: Operator) -> None:
    """A preview changes nothing and says what would change; the change is whole."""
    for number in range(300):
        operator.scenario.store.create(f"student-{number}")
    changes = {"match": "student-*", "changes": {"limits": {"tokens_per_day": 5000}}}
    preview = await operator.ask("POST", "/keys/update", {**changes, "dry_run": True})
    untouched = operator.scenario.store.list()
    done = await operator.ask("POST", "/keys/update", changes)
    limits = [key.limits.tokens_per_day for key in operator.scenario.store.list()]

    assert (len(preview.document["changed"]), preview.document) == (300, done.document)
    assert {key.limits.tokens_per_day for key in untouched} == {None}
    assert limits == [None] + [5000] * 300
