"""Operations on the use of limits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import attrs

from ollama_gateway.control.limits import RESETTABLE, LimitsControl, Standing
from ollama_gateway.control.paging import page_after
from ollama_gateway.control.shapes import (
    Fields,
    Flag,
    Integer,
    ListOf,
    MapOf,
    Number,
    OrNull,
    Shape,
    Text,
    page_of,
)
from ollama_gateway.server.admin_api.operation import PAGING, AdminCall, AdminReply, Operation

LONGEST_REASON: Final = 1000
"""Characters."""
STATUS: Final = Fields(
    {
        "limit": Integer(),
        "used": Integer(),
        "left": Integer(),
        "reset_s": Number("Seconds until all of it is free again if no request follows."),
    }
)
_STANDING: Final[dict[str, Shape]] = {
    "key_id": Text(),
    "key_name": Text(),
    "nearest": OrNull(Text("The limit of which the largest share is used.")),
    "share": OrNull(Number("That share; null without limits.")),
    "limits": MapOf(STATUS, "Those in force: `rate`, `concurrency`, `day`, `month`."),
}
STANDING: Final = Fields(_STANDING)
RESET: Final = Fields(
    {
        **_STANDING,
        "is_on_disk": Flag("Whether the reset would survive a restart by now."),
    }
)
TAKES: Final = Fields(
    {
        "reason": Text("For the audit log.", longest=LONGEST_REASON),
        "limits": ListOf(Text(one_of=RESETTABLE), "All by default.", most=len(RESETTABLE)),
    },
    needed=("reason",),
)


@attrs.frozen
class LimitsOperations:
    """Operations on the use of limits."""

    control: LimitsControl

    def all(self) -> Sequence[Operation]:
        """Return the operations."""
        return [
            Operation(
                "GET",
                "/limits",
                "viewer",
                "List how much of its limits each active key has used, those near one first.",
                self._list,
                page_of(STANDING),
                query=PAGING,
            ),
            Operation(
                "GET",
                "/limits/{key_id}",
                "viewer",
                "Get how much of its limits a key has used.",
                self._get,
                STANDING,
            ),
            Operation(
                "POST",
                "/limits/{key_id}/reset",
                "admin",
                "Set what a key has used of limits back to zero.",
                self._reset,
                RESET,
                takes=TAKES,
            ),
        ]

    async def _list(self, call: AdminCall) -> AdminReply:
        found = await self.control.all()
        cursor, show = call.query.get("cursor"), Standing.document
        return AdminReply(page_after(found, _place, cursor, call.limit, show).document())

    async def _get(self, call: AdminCall) -> AdminReply:
        return AdminReply((await self.control.of(call.path["key_id"])).document())

    async def _reset(self, call: AdminCall) -> AdminReply:
        given = call.document
        names = given.get("limits") or RESETTABLE
        key_id, reason = call.path["key_id"], given["reason"]
        return AdminReply(await self.control.reset(key_id, call.actor, reason, names))


def _place(one: Standing) -> tuple[float, str]:
    return -one.share, one.key.id
