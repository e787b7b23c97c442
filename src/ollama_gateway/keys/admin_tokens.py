"""Admin tokens: their texts, what their holders may do at the control surface, and their store.

A token reads `ogwa_<secret><checksum>`: 256 bits of secret, and a checksum that only keeps
mistyped tokens from the store, as in a key. The rules are those of keys: stores see SHA-256 digests
only, and no repr and no exception holds a token's text.
"""

from __future__ import annotations

import hmac
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Final, Literal

import attrs

from ollama_gateway.keys.key import KeyRefused, WrongValue, digest_of, utc_now
from ollama_gateway.keys.seals import SEAL, is_sealed, sealed
from ollama_gateway.suggestions import did_you_mean

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


class AdminTokens(ABC):
    """The tokens of a store, beside its keys; the methods raise what those of `KeyStore` do."""

    _now: Callable[[], datetime]

    def create_token(
        self, name: str, role: Role, expires_at: datetime | None = None
    ) -> tuple[AdminToken, str]:
        """Make a token; return it and its text, which is stored nowhere."""
        token, text = AdminToken(name, role, self._now(), expires_at), new_token_text()
        with self._change():
            if any(stored.token.name == name for stored in self._living()):
                raise KeyRefused(f"name {name!r} is taken by an admin token: revoke that one first")
            self._insert_token(StoredToken(token, digest_of(text)))
        return token, text

    def list_tokens(self) -> tuple[AdminToken, ...]:
        """Return all tokens, revoked ones too, oldest first."""
        return tuple(stored.token for stored in self.stored_tokens())

    def get_token(self, name: str) -> AdminToken:
        """Return the token of a name: the living one, or else the last that was revoked."""
        with self._reading():
            return self._named(name).token

    def revoke_token(self, name: str) -> AdminToken:
        """Revoke a token for good, and return it; a revoked one stays as it is."""
        with self._change():
            found = self._named(name)
            if found.token.revoked_at is not None:
                return found.token
            token = attrs.evolve(found.token, revoked_at=self._now())
            self._write_token(StoredToken(token, found.digest))
        return token

    def find_tokens(self, digests: Sequence[str]) -> Sequence[AdminToken | None]:
        """Look up digests; the caller checks whether the token is active."""
        known = {stored.digest: stored for stored in self.stored_tokens()}
        return [_checked(digest, known.get(digest)) for digest in digests]

    def stored_tokens(self) -> tuple[StoredToken, ...]:
        """Return all tokens with their digests, oldest first."""
        with self._reading():
            return self._tokens()

    def _living(self) -> list[StoredToken]:
        return [stored for stored in self._tokens() if stored.token.revoked_at is None]

    def _named(self, name: str) -> StoredToken:
        tokens = self._tokens()
        found = [stored for stored in tokens if stored.token.name == name]
        if not found:
            # The operator may have given a token's text instead of its name: do not repeat it.
            is_text = name.startswith(ADMIN_PREFIX)
            shown = "of this name" if is_text else repr(name[:MAX_TOKEN_NAME])
            near = "" if is_text else did_you_mean(name, (one.token.name for one in tokens))
            raise KeyRefused(
                f"no admin token {shown}{near}: `gatewayctl admin-tokens list` shows them"
            )
        return next((one for one in found if one.token.revoked_at is None), found[-1])

    @abstractmethod
    def _reading(self) -> AbstractContextManager[None]:
        """Enter a read in which the statements below may be used."""

    @abstractmethod
    def _change(self) -> AbstractContextManager[None]:
        """Enter a serialised change: committed at its end, rolled back if it raises."""

    @abstractmethod
    def _tokens(self) -> tuple[StoredToken, ...]:
        """Return all tokens, oldest first."""

    @abstractmethod
    def _insert_token(self, stored: StoredToken) -> None:
        """Insert a token."""

    @abstractmethod
    def _write_token(self, stored: StoredToken) -> None:
        """Overwrite the token of this digest."""


def _checked(digest: str, found: StoredToken | None) -> AdminToken | None:
    if found is None or not hmac.compare_digest(digest, found.digest):
        return None
    return found.token
