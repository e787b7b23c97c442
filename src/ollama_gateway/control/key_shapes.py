"""The shapes of keys: as they are shown, given, and imported."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ollama_gateway.control.shapes import Fields, Integer, ListOf, MapOf, OrNull, Shape, Text
from ollama_gateway.keys.key import ENDPOINT_GROUPS, MAX_LIMIT, MAX_NAME, MAX_TEXT

LIMIT: Final = OrNull(Integer("Null is the settings' default, 0 is unlimited.", 0, MAX_LIMIT))
LIMITS: Final[Mapping[str, Shape]] = dict.fromkeys(
    ("requests_per_minute", "concurrent_requests", "tokens_per_day", "tokens_per_month"), LIMIT
)
MOMENT: Final = OrNull(Text(is_time=True))
STATUS: Final = Text(one_of=("active", "expired", "revoked"))
GIVEN: Final[Mapping[str, Shape]] = {
    "name": Text("Unique among keys that are not revoked.", longest=MAX_NAME),
    "models": ListOf(Text(), "Names and patterns of models; `*` is all but cloud models."),
    "endpoints": ListOf(Text(one_of=ENDPOINT_GROUPS)),
    "limits": Fields(LIMITS, needed=()),
    "user_header": OrNull(Text("The header, or `body:FIELD`, that names the end user.")),
    "aliases": MapOf(ListOf(Text()), "Models by alias."),
    "expires_at": MOMENT,
}
"""What a key may be given."""
KEY: Final = Fields(
    {
        "id": Text(),
        **GIVEN,
        "status": STATUS,
        "limits": Fields(LIMITS),
        "created_at": MOMENT,
        "revoked_at": MOMENT,
    }
)
SECRET: Final = Fields({**KEY.fields, "key": Text("The key's text, which is not shown again.")})
IMPORTED: Final = Fields(
    {**GIVEN, "key": Text("The key's text; only its hash is stored.", longest=MAX_TEXT)},
    needed=("name", "key"),
)
