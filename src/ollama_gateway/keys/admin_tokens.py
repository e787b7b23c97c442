"""The admin tokens of a store, and the rules of changing them; they stand beside the keys."""

from __future__ import annotations

import hmac
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from datetime import datetime

import attrs

from ollama_gateway.keys.admin_token import (
    ADMIN_PREFIX,
    MAX_TOKEN_NAME,
    AdminToken,
    Role,
    StoredToken,
    new_token_text,
)
from ollama_gateway.keys.key import KeyRefused, digest_of
from ollama_gateway.suggestions import did_you_mean


class AdminTokens(ABC):
    """Makes, finds and revokes tokens; the methods raise what those of `KeyStore` do."""

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
