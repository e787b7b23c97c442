"""Operations on the audit log: records, one record, and sums of usage."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final, TypeVar, get_args

import anyio
import attrs

from ollama_gateway.control.audit import audit_page, audit_record
from ollama_gateway.control.paging import cursor_of, place_in
from ollama_gateway.control.shapes import (
    Anything,
    Fields,
    Flag,
    Integer,
    ListOf,
    MapOf,
    OrNull,
    Text,
    page_of,
)
from ollama_gateway.control.time_ranges import time_range_of
from ollama_gateway.control.unknown_filters import KnownNames, refuse_unknown
from ollama_gateway.control.usage import usage_page, ways_of
from ollama_gateway.ledger.read.audit_log import AuditPlace
from ollama_gateway.ledger.read.filtering import Filter, Kind
from ollama_gateway.reasons import Outcome
from ollama_gateway.server.admin_api.operation import PAGING, AdminCall, AdminReply, Operation
from ollama_gateway.storage.batcher import Runner

OUTCOMES: Final[tuple[str, ...]] = get_args(Outcome)
KINDS: Final[tuple[str, ...]] = get_args(Kind)
READERS: Final = 2
"""Reads at once; each has a thread, whose work slows down the streams a little."""
COUNT: Final = Integer(most=2**63 - 1)
FAULTS: Final = ListOf(Text(), "What could not be read.")
NAME: Final = OrNull(Text())
RECORD: Final = MapOf(Anything(), "As `gatewayctl audit show ID --json` prints it.")
RECORDS: Final = Fields(
    {
        **page_of(RECORD).fields,
        "position": Text("The cursor to go on from later, for records that are still to come."),
        "faults": FAULTS,
    }
)
SUMS: Final = Fields(
    {
        **dict.fromkeys(
            ["key_id", "key_name", "end_user", "model", "backend", "day", "month", "outcome"], NAME
        ),
        "requests": COUNT,
        "refused": COUNT,
        "failed": COUNT,
        "prompt_tokens": COUNT,
        "completion_tokens": COUNT,
        "counted_tokens": COUNT,
        "cached_tokens": OrNull(COUNT),
        "cached_of_tokens": COUNT,
        "total_tokens": COUNT,
    },
    needed=("requests", "refused", "failed", "prompt_tokens", "completion_tokens", "total_tokens"),
)
USAGE: Final = Fields(
    {
        **page_of(SUMS).fields,
        "groups": Integer("How many there are."),
        "faults": FAULTS,
    }
)
_TIMES: Final = {
    "since": Text("Requests that began since: 7d, 2026-07-01, 2026-07-01T08:00:00Z."),
    "until": Text("Requests that began before."),
}
_KEY_AND_MODEL: Final = {"key": Text("A key's id or name."), "model": Text()}

T = TypeVar("T")


@attrs.frozen
class AuditOperations:
    """Operations that read the audit log, in threads."""

    place: AuditPlace
    known: KnownNames
    runner: Runner
    _turns: anyio.CapacityLimiter = attrs.field(
        factory=lambda: anyio.CapacityLimiter(READERS), init=False
    )

    def all(self) -> Sequence[Operation]:
        """Return the operations."""
        filters = {
            **_TIMES,
            **_KEY_AND_MODEL,
            "kind": Text("`change`: what operators changed; only times filter it.", KINDS),
            "backend": Text("The one that answered."),
            "outcome": Text(one_of=OUTCOMES),
            "reason": Text("The word for how it ended."),
            "end_user": Text(),
            "endpoint": Text("The path: /api/chat."),
            "newest": Flag("Whether the page has the newest records, not the first ones."),
            **PAGING,
        }
        usage = {
            **_TIMES,
            **_KEY_AND_MODEL,
            "by": Text("One or two ways with a comma: key (the default), end-user, model, ..."),
            "per": Text("Also by this period.", ("day", "month")),
            **PAGING,
        }
        return [
            Operation(
                "GET",
                "/audit",
                "viewer",
                "List records in the order in which their requests ended.",
                self._list,
                RECORDS,
                query=filters,
            ),
            Operation(
                "GET", "/audit/{id}", "viewer", "Get the record of a request.", self._get, RECORD
            ),
            Operation(
                "GET",
                "/usage",
                "viewer",
                "Sum up requests and tokens, the most tokens first.",
                self._usage,
                USAGE,
                query=usage,
            ),
        ]

    async def _list(self, call: AdminCall) -> AdminReply:
        wanted = _filter_of(call.query)
        page = partial(
            audit_page,
            self.place,
            wanted,
            call.limit,
            cursor=call.query.get("cursor"),
            newest=call.query.get("newest", False),
        )
        document = await self._read(page)
        if not document["items"] and "cursor" not in call.query:
            await self._refuse_unknown(wanted)
        return AdminReply(document)

    async def _get(self, call: AdminCall) -> AdminReply:
        return AdminReply(await self._read(partial(audit_record, self.place, call.path["id"])))

    async def _usage(self, call: AdminCall) -> AdminReply:
        ways = ways_of(call.query.get("by", "key"), call.query.get("per"))
        wanted = _filter_of(call.query)
        after = place_in(call.query.get("cursor"), (int,))
        start = int(after[0]) if after else 0
        page = partial(usage_page, self.place, wanted, ways, max(start, 0), call.limit)
        document = await self._read(page)
        if not document["groups"]:
            await self._refuse_unknown(wanted)
        end = start + len(document["items"])
        following = cursor_of((end,)) if end < document["groups"] else None
        return AdminReply({**document, "next": following})

    async def _refuse_unknown(self, wanted: Filter) -> None:
        """Tell a filter that is mistyped from one that no request has matched; NoSuchThing."""
        await self._read(partial(refuse_unknown, self.place, wanted, self.known))

    async def _read(self, work: Callable[[], T]) -> T:
        async with self._turns:
            return await self.runner(work)


def _filter_of(query: Mapping[str, Any]) -> Filter:
    names = ("key", "model", "backend", "outcome", "reason", "end_user", "endpoint")
    times = time_range_of(query.get("since"), query.get("until"))
    kind = query.get("kind", "request")
    return Filter(times, **{name: query.get(name) for name in names}, kind=kind)
