"""Operations on admin tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import UTC, datetime
from typing import Any, Final, TypeVar, cast

import attrs

from ollama_gateway.control.actor import ROLES, Role
from ollama_gateway.control.admin_tokens import (
    create_admin_token,
    list_admin_tokens,
    revoke_admin_token,
)
from ollama_gateway.control.errors import AlreadyThere, NoSuchThing, Problem, WrongInput
from ollama_gateway.control.paging import page_after
from ollama_gateway.control.shapes import Fields, OrNull, Text, page_of
from ollama_gateway.keys.admin_tokens import MAX_TOKEN_NAME
from ollama_gateway.keys.key import KeyRefused, WrongValue, utc_now
from ollama_gateway.keys.location import KeyStoreLocation
from ollama_gateway.keys.sql import KeyStore
from ollama_gateway.ledger.operator_change import ChangeRecorder
from ollama_gateway.server.admin_api.operation import PAGING, AdminCall, AdminReply, Operation
from ollama_gateway.storage.batcher import Runner

T = TypeVar("T")

ROLE: Final = Text("What its holder may do.", one_of=ROLES)
MOMENT: Final = OrNull(Text(is_time=True))
TOKEN: Final = Fields(
    {
        "name": Text(),
        "role": ROLE,
        "status": Text(one_of=("active", "expired", "revoked")),
        "created_at": MOMENT,
        "expires_at": MOMENT,
        "revoked_at": MOMENT,
    }
)
NEW: Final = Fields(
    {
        "name": Text("Its name in audit records.", longest=MAX_TOKEN_NAME),
        "role": ROLE,
        "expires_at": OrNull(Text("When it ends; null is never.", is_time=True)),
    },
    needed=("name", "role"),
)
MADE: Final = Fields(
    {
        "name": Text(),
        "role": ROLE,
        "token": Text("Its text, which is shown once."),
        "expires_at": MOMENT,
    }
)


@attrs.frozen
class TokenOperations:
    """Operations on the admin tokens of a store, each over a connection of its own."""

    location: KeyStoreLocation
    recorder: ChangeRecorder
    runner: Runner

    def all(self) -> Sequence[Operation]:
        """Return the operations."""
        path = "/admin-tokens"
        return [
            Operation(
                "GET", path, "admin", "List admin tokens.", self._list, page_of(TOKEN), query=PAGING
            ),
            Operation(
                "POST",
                path,
                "admin",
                "Create an admin token.",
                self._create,
                MADE,
                takes=NEW,
                status=201,
            ),
            Operation(
                "DELETE",
                f"{path}/{{name}}",
                "admin",
                "Revoke an admin token for good.",
                self._revoke,
                TOKEN,
            ),
        ]

    async def _list(self, call: AdminCall) -> AdminReply:
        found = await self._with_store(list_admin_tokens)
        page = page_after(
            [*enumerate(found)], _place, call.query.get("cursor"), call.limit, lambda one: one[1]
        )
        return AdminReply(page.document())

    async def _create(self, call: AdminCall) -> AdminReply:
        given = call.document
        role, expires_at = cast("Role", given["role"]), _moment(given.get("expires_at"))

        def create(store: KeyStore) -> dict[str, Any]:
            return create_admin_token(
                store, self.recorder, call.actor, given["name"], role, expires_at
            )

        try:
            return AdminReply(await self._with_store(create))
        except WrongValue as error:
            raise WrongInput([Problem("/name", str(error))]) from None
        except KeyRefused as error:
            raise AlreadyThere(str(error)) from None

    async def _revoke(self, call: AdminCall) -> AdminReply:
        def revoke(store: KeyStore) -> dict[str, Any]:
            return revoke_admin_token(store, self.recorder, call.actor, call.path["name"])

        try:
            return AdminReply(await self._with_store(revoke))
        except KeyRefused as error:
            raise NoSuchThing(str(error)) from None

    async def _with_store(self, work: Callable[[KeyStore], T]) -> T:
        def done() -> T:
            with closing(self.location.open()) as store:
                return work(store)

        return await self.runner(done)


def _place(one: tuple[int, dict[str, Any]]) -> tuple[str, str]:
    number, token = one
    return token["created_at"], f"{number:08}"


def _moment(text: str | None) -> datetime | None:
    """Read the end of a token; raises WrongInput."""
    if text is None:
        return None
    try:
        when = datetime.fromisoformat(text)
        when = when.astimezone(UTC) if when.tzinfo else when.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise WrongInput([Problem("/expires_at", "is not a moment (RFC 3339)")]) from None
    if when <= utc_now():
        raise WrongInput([Problem("/expires_at", "is in the past")])
    return when
