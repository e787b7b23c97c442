"""Admin tokens: who may use the control surface. Every change is recorded first; all of it blocks.

The functions raise what the store does (`KeyRefused`, `StoreError`), and `ChangeNotRecorded`.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from ollama_gateway.control.actor import Actor
from ollama_gateway.keys.admin_tokens import AdminToken, AdminTokens, Role
from ollama_gateway.keys.key import utc_now
from ollama_gateway.ledger.operator_change import ChangeRecorder, OperatorChange


def list_admin_tokens(store: AdminTokens) -> Sequence[dict[str, Any]]:
    """Return all tokens, revoked ones too, oldest first."""
    now = utc_now()
    return [token_document(token, now) for token in store.list_tokens()]


def create_admin_token(
    store: AdminTokens,
    recorder: ChangeRecorder,
    actor: Actor,
    name: str,
    role: Role,
    expires_at: datetime | None = None,
) -> dict[str, Any]:
    """Make a token and return it with its text, which is shown once."""
    new = AdminToken(name, role, expires_at=expires_at)
    after = token_document(new, utc_now())
    change = OperatorChange(actor.name, "admin_tokens.create", name, None, after)
    with recorder.making(change):
        token, text = store.create_token(name, role, expires_at)
        after.update(token_document(token, utc_now()))
    return {"name": name, "role": role, "token": text, "expires_at": after["expires_at"]}


def revoke_admin_token(
    store: AdminTokens, recorder: ChangeRecorder, actor: Actor, name: str
) -> dict[str, Any]:
    """Revoke a token for good, in every gateway within a second; return it."""
    before = store.get_token(name)
    after = token_document(before, utc_now())
    change = OperatorChange(actor.name, "admin_tokens.revoke", name, dict(after), after)
    with recorder.making(change):
        after.update(token_document(store.revoke_token(name), utc_now()))
    return after


def token_document(token: AdminToken, now: datetime) -> dict[str, Any]:
    """Return a token for programs, without its text."""
    return {
        "name": token.name,
        "role": token.role,
        "status": token.status(now),
        "created_at": _time(token.created_at),
        "expires_at": _time(token.expires_at),
        "revoked_at": _time(token.revoked_at),
    }


def _time(when: datetime | None) -> str | None:
    return when.isoformat(timespec="seconds").replace("+00:00", "Z") if when else None
