"""Keys as documents, and the functions that list and change them in a store."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import attrs

from ollama_gateway.keys.key import ENDPOINT_GROUPS, APIKey
from ollama_gateway.models.aliases import models_of

KeyDocument = dict[str, Any]


def key_document(key: APIKey, now: datetime) -> KeyDocument:
    """Return a key without its text; `now` is the wall clock, for its status."""
    return {
        "id": key.id,
        "name": key.name,
        "status": key.status(now),
        "models": list(key.models),
        "endpoints": [group for group in ENDPOINT_GROUPS if group in key.endpoints],
        "limits": attrs.asdict(key.limits),
        "user_header": key.user_header,
        "aliases": models_of(key.aliases),
        "created_at": shown_moment(key.created_at),
        "expires_at": shown_moment(key.expires_at),
        "revoked_at": shown_moment(key.revoked_at),
    }


def shown_moment(when: datetime | None) -> str | None:
    """Return a moment in UTC to the second (RFC 3339)."""
    return when.isoformat(timespec="seconds").replace("+00:00", "Z") if when else None
