"""From an admin token to the actor that has it, and from an actor to what it may.

There are three kinds of tokens: that of the settings, the local one, and those of the store. The
last two are random texts of 256 bits. So an address that has sent too many wrong tokens is only
kept from what can be guessed or costs a look-up: the token of the settings, and unknown ones.
"""

from __future__ import annotations

import hmac
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final
from urllib.parse import quote, unquote

import attrs

from ollama_gateway.control.actor import LOCAL, READER, ROLES, SETTINGS, Actor, Role
from ollama_gateway.control.local_token import LocalToken
from ollama_gateway.errors import Forbidden, LimitReached, Unauthorized, Unavailable
from ollama_gateway.keys.admin_token_cache import AdminTokenCache, open_admin_tokens
from ollama_gateway.keys.admin_tokens import is_token_text
from ollama_gateway.keys.key import digest_of
from ollama_gateway.keys.location import KeyStoreLocation
from ollama_gateway.reasons import Reason
from ollama_gateway.server.admin_attempts import FailedAttempts
from ollama_gateway.storage.batcher import Runner, in_thread
from ollama_gateway.storage.data_files import LOCAL_TOKEN_FILE
from ollama_gateway.wire.headers import Headers

ACTOR_HEADER: Final = b"x-gateway-actor"
"""Tells a process who asks its parent: `operator ci`, the name quoted as in a URL."""


@attrs.frozen
class AdminChecks:
    """What checks tokens, and outlives a reload."""

    tokens: AdminTokenCache | None = None
    local: LocalToken | None = None
    attempts: FailedAttempts = attrs.field(factory=FailedAttempts)

    async def actor_of(self, text: str, client: str, of_settings: str | None) -> Actor:
        """Return who has a token.

        Args:
            text: the token.
            client: the address that sends it.
            of_settings: the token of the settings, if there is one.

        Raises:
            Unauthorized: no active token has this text.
            LimitReached: the address has sent too many wrong tokens.
            Unavailable: the store fails, and the token is none that was seen lately.

        """
        left = self.attempts.seconds_left(client)
        if not left and of_settings is not None and _are_equal(text, of_settings):
            return SETTINGS
        if not left:
            self.attempts.note(client)  # first: others may be checked at the same time
        try:
            actor = await self._look_up(text, may_guess=not left)
        except Unavailable:
            if not left:
                self.attempts.forgive(client)
            raise
        if actor is None and left:
            message = "too many wrong admin tokens from this address"
            raise LimitReached(message, reason=Reason.ADMIN_ATTEMPTS, retry_after=left)
        if actor is None:
            self.attempts.failed(client)
            raise Unauthorized("invalid admin token")
        if not left:
            self.attempts.forgive(client)
        return actor

    async def _look_up(self, text: str, *, may_guess: bool) -> Actor | None:
        if not is_token_text(text):
            return None
        if self.local is not None and await self.local.is_text(text):
            return LOCAL
        if self.tokens is None or not (may_guess or self.tokens.knows(text)):
            return None
        token = await self.tokens.find(text)
        return None if token is None else Actor(token.name, token.role)


@asynccontextmanager
async def open_admin_checks(
    location: KeyStoreLocation, data_dir: Path, *, runner: Runner = in_thread
) -> AsyncIterator[AdminChecks]:
    """Open the store of tokens for the length of a block, after a new local token was written.

    Raises:
        StoreError: the store cannot be opened, or the file of the local token not be used.

    """
    local = LocalToken(data_dir / LOCAL_TOKEN_FILE, runner)
    async with open_admin_tokens(location, runner=runner) as tokens:
        await runner(local.renew)
        yield AdminChecks(tokens, local)


def require(actor: Actor, role: Role) -> None:
    """Let an actor pass whose role includes the needed one; raises Unauthorized, Forbidden."""
    if actor.may(role):
        return
    if actor == READER:
        raise Unauthorized("this needs an admin token")
    message = f"this needs the role {role}; the admin token has {actor.role}"
    raise Forbidden(message, reason=Reason.ROLE_TOO_LOW)


def header_of(actor: Actor) -> tuple[bytes, bytes]:
    """Return the header in which a parent tells a process who asks."""
    return ACTOR_HEADER, f"{actor.role} {quote(actor.name, safe='')}".encode()


def actor_in(headers: Headers) -> Actor:
    """Return the actor whom the parent names; without the header, a reader.

    Only for the socket that the parent alone can reach.
    """
    for name, value in headers:
        role, _, quoted = value.decode("latin-1").partition(" ")
        if name.lower() == ACTOR_HEADER and role in ROLES:
            return Actor(unquote(quoted), role)
    return READER


def _are_equal(text: str, other: str) -> bool:
    return hmac.compare_digest(digest_of(text), digest_of(other))
