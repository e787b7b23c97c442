"""The standing of keys in their limits and its reset, as operators see them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from ollama_gateway.control.actor import Actor
from ollama_gateway.control.errors import NoSuchThing, WrongInput
from ollama_gateway.control.limits import LimitsControl
from ollama_gateway.keys.key import APIKey, KeyLimits, utc_now
from ollama_gateway.ledger.operator_change import ChangeNotRecorded, OperatorChange
from ollama_gateway.limits.leases import Limiter
from ollama_gateway.limits.opening import open_limits
from ollama_gateway.limits.quota import Grant, Quota, Reservation, ReservationRequest
from ollama_gateway.metrics import Metrics
from ollama_gateway.server.admin_api.limits import LimitsOperations
from ollama_gateway.server.admin_api.operation import AdminCall, AdminReply
from ollama_gateway.storage.batcher import in_place
from tests.control.changes import ListedChanges
from tests.limits.spent import now

pytestmark = pytest.mark.virtual_time

MIA = Actor("mia", "admin")


def key(key_id: str, **limits: int) -> APIKey:
    """Return a key."""
    own = KeyLimits(**limits)
    return APIKey(key_id, f"name of {key_id}", created_at=utc_now(), limits=own)


class Desk:
    """The control over a store of limits in memory."""

    def __init__(self, limiter: Limiter, keys: Sequence[APIKey]) -> None:
        self.limiter = limiter
        self.changes = ListedChanges()
        self.control = LimitsControl(limiter, lambda: keys, self.changes, in_place)
        self.operations = {
            f"{one.method} {one.template}": one for one in LimitsOperations(self.control).all()
        }

    async def spend(self, key_id: str, tokens: int) -> None:
        """Let a request of a key end."""
        self.limiter.store.settle(await self.begin(key_id, tokens), tokens)

    async def begin(self, key_id: str, tokens: int) -> Reservation:
        """Admit a request."""
        quota = Quota(10**6, 10**6, 10**9, 10**9)
        name = f"{key_id} {tokens}"
        outcome = await self.limiter.store.reserve(ReservationRequest(name, key_id, quota, tokens))
        assert isinstance(outcome, Grant)
        return outcome.reservation

    async def serve(self, operation: str, **call: Any) -> Any:
        """Serve a call, and check its answer against its shape."""
        one = self.operations[operation]
        reply: AdminReply = await one.serve(AdminCall(MIA, **call))
        assert one.answer is not None
        assert list(one.answer.problems(reply.document)) == []
        return reply.document


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    """Three keys with limits, one without, and one that is revoked."""
    keys = [
        key("a", tokens_per_day=1000, tokens_per_month=10**6),
        key("b", tokens_per_day=100),
        key("c", requests_per_minute=4),
        key("free"),
        APIKey("gone", "gone", created_at=utc_now(), revoked_at=utc_now()),
    ]
    async with open_limits(
        tmp_path, None, Quota(), 100, Metrics(), runner=in_place, now=now
    ) as limiter:
        yield Desk(limiter, keys)


async def test_keys_near_a_limit_come_first(desk: Desk) -> None:
    """The largest share of any limit counts; pages go on where one ended."""
    await desk.spend("a", 900)
    await desk.spend("b", 20)
    await desk.spend("c", 1)

    whole = await desk.serve("GET /limits")
    assert whole["next"] is None
    assert [(one["key_id"], one["nearest"], one["share"]) for one in whole["items"]] == [
        ("a", "day", 0.9),
        ("c", "rate", 0.25),
        ("b", "day", 0.2),
        ("free", None, None),
    ]
    assert whole["items"][0]["limits"]["month"]["used"] == 900
    first = await desk.serve("GET /limits", query={"limit": 3})
    rest = await desk.serve("GET /limits", query={"limit": 3, "cursor": first["next"]})
    assert [*first["items"], *rest["items"]] == whole["items"]
    assert await desk.serve("GET /limits/{key_id}", path={"key_id": "b"}) == whole["items"][2]


async def test_a_reset_is_a_change_with_a_reason(desk: Desk) -> None:
    """The record has the use before and after it; requests that run still count."""
    await desk.spend("a", 900)
    running = await desk.begin("a", 50)

    path, document = {"key_id": "a"}, {"reason": "paid again"}
    reply = await desk.serve("POST /limits/{key_id}/reset", path=path, document=document)

    assert reply["is_on_disk"] is True
    assert (reply["limits"]["day"]["used"], reply["limits"]["month"]["used"]) == (50, 50)
    before, after = {"rate": 2, "day": 950, "month": 950}, {"rate": 0, "day": 50, "month": 50}
    assert desk.changes.made == [
        OperatorChange("mia", "limits.reset", "a", before, after, "paid again")
    ]
    desk.limiter.store.settle(running, 70)
    assert (await desk.control.of("a")).statuses["day"].used == 70


async def test_only_the_limits_that_are_named_are_reset(desk: Desk) -> None:
    """The month goes on."""
    await desk.spend("a", 900)
    document = {"reason": "a bad day", "limits": ["day"]}
    path = {"key_id": "a"}
    reply = await desk.serve("POST /limits/{key_id}/reset", path=path, document=document)

    assert (reply["limits"]["day"]["used"], reply["limits"]["month"]["used"]) == (0, 900)


async def test_what_cannot_be_recorded_is_not_reset(desk: Desk) -> None:
    """The use stays as it was."""
    await desk.spend("a", 900)
    desk.changes.is_full = True

    with pytest.raises(ChangeNotRecorded):
        await desk.control.reset("a", MIA, "why not")
    assert (await desk.control.of("a")).statuses["day"].used == 900


async def test_an_unknown_key_has_no_standing(desk: Desk) -> None:
    """Keys are named by their ids, since a name may pass to another."""
    for key_id in ("nobody", "name of a"):
        with pytest.raises(NoSuchThing):
            await desk.control.of(key_id)
        with pytest.raises(NoSuchThing):
            await desk.control.reset(key_id, MIA, "why not")
    assert desk.changes.made == desk.changes.failed == []


async def test_a_journal_that_fails_is_told(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reset is in force, and the answer says that a restart would undo it."""
    await desk.spend("a", 900)
    (tmp_path / "budgets-0.db").rename(tmp_path / "elsewhere")
    reply = await desk.control.reset("a", MIA, "why not")
    assert (reply["is_on_disk"], reply["limits"]["day"]["used"]) == (False, 0)
    (tmp_path / "elsewhere").rename(tmp_path / "budgets-0.db")

    assert await desk.limiter.usage_journal.forgiven_is_written(10)


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"reason": 5},
        {"reason": "x" * 1001},
        {"reason": "x", "limits": ["concurrency"]},
        {"reason": "x", "limits": "day"},
        {"reason": "x", "more": 1},
    ],
)
async def test_a_wrong_reset_is_refused(desk: Desk, wrong: dict[str, Any]) -> None:
    """A reason is needed, and only limits that are used up can be reset."""
    takes = desk.operations["POST /limits/{key_id}/reset"].takes
    assert takes is not None
    assert list(takes.problems({"reason": "x", "limits": ["day"]})) == []
    assert list(takes.problems(wrong)) != []


async def test_a_reason_says_something(desk: Desk) -> None:
    """Blanks are none."""
    with pytest.raises(WrongInput, match=r"^/reason: is empty$"):
        await desk.control.reset("a", MIA, "  ")
