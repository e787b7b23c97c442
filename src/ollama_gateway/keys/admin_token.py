"""An admin token: its text, and what its holder may do at the control surface.

A token reads `ogwa_<secret><checksum>`: 256 bits of secret, and a checksum that only keeps
mistyped tokens from the store, as in a key. The rules are those of keys: stores see SHA-256 digests
only, and no repr and no exception holds a token's text.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Final, Literal

import attrs

from ollama_gateway.keys.key import SEAL, WrongValue, is_sealed, sealed, utc_now

ADMIN_PREFIX: Final = "ogwa_"
Role = Literal["viewer", "operator", "admin"]
"""`viewer` reads; `operator` also pauses, cancels, reloads and loads; `admin` may do all."""
ROLES: Final[tuple[Role, ...]] = ("viewer", "operator", "admin")
"""From the least to the most; each role may do what those before it may."""
RESERVED_NAMES: Final = frozenset({"-", "settings", "local"})
"""Names of actors that have no token in a store."""
MAX_TOKEN_NAME: Final = 100
"""Characters."""

_SHAPE: Final = re.compile(rf"{ADMIN_PREFIX}[A-Za-z0-9]{{{SEAL}}}", re.ASCII)


def new_token_text() -> str:
    """Make the text of a token."""
    return sealed(ADMIN_PREFIX)


def is_token_text(text: str) -> bool:
    """Whether a text can be that of a token; no store need be asked for another one."""
    return _SHAPE.fullmatch(text) is not None and is_sealed(text)


def _check_name(_token: object, _field: object, name: str) -> None:
    if not (1 <= len(name) <= MAX_TOKEN_NAME and name.isprintable() and name == name.strip()):
        raise WrongValue(f"an admin token's name has 1 to {MAX_TOKEN_NAME} visible characters")
    if name.startswith(ADMIN_PREFIX):
        raise WrongValue(f"an admin token's name does not begin with {ADMIN_PREFIX}")
    if name in RESERVED_NAMES:
        raise WrongValue(f"{name!r} is the name of another actor: choose another one")


def _check_role(_token: object, _field: object, role: str) -> None:
    if role not in ROLES:
        raise WrongValue(f"{role[:60]!r} is no role; there are {', '.join(ROLES)}")


@attrs.frozen
class AdminToken:
    """An admin token as the store holds it, without its text.

    Raises:
        WrongValue: no token may have this name or role.

    """

    name: str = attrs.field(validator=_check_name)
    """Unique among the tokens that are not revoked."""
    role: Role = attrs.field(validator=_check_role)
    created_at: datetime = attrs.field(factory=utc_now)
    expires_at: datetime | None = None
    revoked_at: datetime | None = None

    def is_active(self, now: datetime) -> bool:
        """Return whether the token grants access at this moment."""
        return self.status(now) == "active"

    def status(self, now: datetime) -> str:
        """Return `active`, `expired` or `revoked`."""
        if self.revoked_at is not None:
            return "revoked"
        if self.expires_at is not None and self.expires_at <= now:
            return "expired"
        return "active"


@attrs.frozen
class StoredToken:
    """A token with the digest of its text, to copy it between stores."""

    token: AdminToken
    digest: str = attrs.field(repr=False)
