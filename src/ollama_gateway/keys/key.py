"""An API key: its text and its rights.

A key of ours reads `ogw_<id>_<secret><checksum>`: a public id of 8 characters, 256 bits of secret,
and a CRC-32 of all before it. The alphabets have no `_`, so the parts are unambiguous. A CRC finds
every typo within 32 consecutive bits; it is no defence, it only keeps typos from the store.

Imported keys keep their texts, so a text without `ogw_` may be a key too, unless it ends like one
of ours: then its prefix is mistyped.

The rules: a store sees SHA-256 digests only (256 random bits need no slow hash); no repr and no
exception holds the text of a key; the client gets one answer whatever is wrong with its key.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import string
import zlib
from datetime import UTC, datetime
from typing import Final

import attrs

from ollama_gateway.errors import Unauthorized
from ollama_gateway.keys.patterns import cover_alias, cover_cloud, cover_model, is_pattern
from ollama_gateway.models.aliases import MAX_OWN_ALIASES, NO_ALIASES, Aliases, faults_of
from ollama_gateway.wire.names import ModelName

PREFIX: Final = "ogw_"
MIN_IMPORTED: Final = 20
"""The fewest characters of an imported key."""
MAX_TEXT: Final = 512
"""The most characters of a credential."""

MAX_NAME: Final = 100
"""Characters in a key's name."""
SECRET_HEADERS: Final = frozenset(
    {"authorization", "proxy-authorization", "x-api-key", "api-key", "cookie"}
)
"""Headers that hold secrets: their values are never stored."""

MAX_LIMIT: Final = 10**12
"""The largest limit a key may have; a larger one would limit nothing."""

ENDPOINT_GROUPS: Final = ("inference", "embeddings", "read", "manage")
DEFAULT_GROUPS: Final = frozenset({"inference", "embeddings", "read"})

_ID_ALPHABET: Final = string.ascii_lowercase + "234567"
_ALPHABET: Final = string.ascii_letters + string.digits
_ID: Final = 8
_SECRET: Final = 43  # 62**43 > 2**256
_CHECKSUM: Final = 6  # 62**6 > 2**32
_OURS: Final = re.compile(
    rf"{PREFIX}[a-z2-7]{{{_ID}}}_[A-Za-z0-9]{{{_SECRET + _CHECKSUM}}}", re.ASCII
)
_OURS_LENGTH: Final = len(PREFIX) + _ID + 1 + _SECRET + _CHECKSUM
_IMPORTED: Final = re.compile(rf"[!-~]{{{MIN_IMPORTED},{MAX_TEXT}}}")


class StoreError(Exception):
    """The store cannot be used; one line for the operator, with a remedy if there is one."""


class StoreAway(StoreError):
    """The store cannot be used now, but may recover by itself."""


class KeyRefused(Exception):
    """The store refuses an operation: no such key, a name taken, a wrong value."""


class WrongValue(KeyRefused):
    """A name, pattern, endpoint group or limit that no key may have, in any store."""


class NoSuchKey(KeyRefused):
    """No key has this id or name."""


class KeyTaken(KeyRefused):
    """Another key has this id, name or text."""


class KeyChanged(KeyRefused):
    """The key is no longer as it was when the change was decided."""


@attrs.frozen
class NewSecret:
    """A key's text, to be shown once."""

    id: str
    text: str = attrs.field(repr=False)


@attrs.frozen
class Claim:
    """A credential that may be a key, as a store looks it up."""

    digest: str = attrs.field(repr=False)
    """SHA-256 of the text, in hex."""


def utc_now() -> datetime:
    """Return the time of the wall clock, in UTC."""
    return datetime.now(UTC)


def check_id(key_id: str) -> None:
    """Raise `WrongValue` for an id that no key may have."""
    if len(key_id) != _ID or not set(key_id) <= set(_ID_ALPHABET):
        raise WrongValue(f"a key's id has {_ID} characters of a-z and 2-7")


def new_id() -> str:
    """Make an id: 40 random bits in 8 characters."""
    return "".join(secrets.choice(_ID_ALPHABET) for _ in range(_ID))


def generate(key_id: str | None = None) -> NewSecret:
    """Make a secret for a new key, or for the key with this id."""
    key_id = key_id or new_id()
    secret = "".join(secrets.choice(_ALPHABET) for _ in range(_SECRET))
    body = f"{PREFIX}{key_id}_{secret}"
    return NewSecret(key_id, body + _checksum(body))


def read_claim(text: str) -> Claim:
    """Check a credential by its text alone.

    Raises:
        Unauthorized: no store can hold such a key.

    """
    if text.startswith(PREFIX):
        good = _is_ours(text)
    else:
        tail = PREFIX + text[len(PREFIX) - _OURS_LENGTH :]
        good = _IMPORTED.fullmatch(text) is not None and not _is_ours(tail)
    if not good:
        raise Unauthorized
    return Claim(digest_of(text))


def digest_of(text: str) -> str:
    """Return the digest of a key's text as stores hold it: SHA-256 in hex."""
    return hashlib.sha256(text.encode()).hexdigest()


def _is_ours(text: str) -> bool:
    return _OURS.fullmatch(text) is not None and text.endswith(_checksum(text[:-_CHECKSUM]))


def _checksum(body: str) -> str:
    rest, signs = zlib.crc32(body.encode()), ""
    for _ in range(_CHECKSUM):
        rest, sign = divmod(rest, len(_ALPHABET))
        signs += _ALPHABET[sign]
    return signs


def check_name(name: str) -> None:
    """Raise `WrongValue` for an invalid name, without repeating it."""
    if not (1 <= len(name) <= MAX_NAME and name.isprintable() and name == name.strip()):
        raise WrongValue(f"a key's name has 1 to {MAX_NAME} visible characters")


def _check_name(_key: object, _field: object, name: str) -> None:
    check_name(name)


def _check_models(_key: object, _field: object, models: tuple[str, ...]) -> None:
    if not models:
        raise WrongValue("a key needs at least one model pattern; '*' is all but cloud models")
    for pattern in models:
        if not is_pattern(pattern):
            raise WrongValue(f"{pattern[:60]!r} is neither a model name nor a pattern")


def _check_aliases(_key: object, _field: object, aliases: Aliases) -> None:
    if len(aliases.all) > MAX_OWN_ALIASES:
        raise WrongValue(f"a key has at most {MAX_OWN_ALIASES} aliases")
    for name, fault in faults_of(aliases.all):
        raise WrongValue(f"the alias {name} {fault}")


def _check_endpoints(_key: object, _field: object, endpoints: frozenset[str]) -> None:
    wrong = sorted(endpoints.difference(ENDPOINT_GROUPS))
    if wrong or not endpoints:
        what = f"{wrong[0][:60]!r} is no endpoint group" if wrong else "no endpoint group given"
        raise WrongValue(f"{what}; there are {', '.join(ENDPOINT_GROUPS)}")


def _check_limit(_limits: object, field: attrs.Attribute[int | None], limit: int | None) -> None:
    # A store may pass any type; `True` and 1.0 are no whole numbers here.
    if limit is not None and (type(limit) is not int or not 0 <= limit <= MAX_LIMIT):
        raise WrongValue(f"{field.name} is not a whole number from 0 to {MAX_LIMIT}")


_USER_SOURCE: Final = re.compile(r"[a-z0-9-]{1,64}|body:[a-z0-9_]{1,64}(?:\.[a-z0-9_]{1,64}){0,3}")
"""A header, or a field of the body."""


def _check_user_header(_key: object, _field: object, name: str | None) -> None:
    if name is None:
        return
    if not _USER_SOURCE.fullmatch(name) or name in SECRET_HEADERS:
        raise WrongValue(f"{name[:60]!r} cannot be the header or field that names the end user")


@attrs.frozen
class KeyLimits:
    """A key's own limits: None means the settings' default, 0 means unlimited.

    Raises:
        WrongValue: a limit is no whole number from 0 to `MAX_LIMIT`.

    """

    requests_per_minute: int | None = attrs.field(default=None, validator=_check_limit)
    """Requests in a window of 60 s."""
    concurrent_requests: int | None = attrs.field(default=None, validator=_check_limit)
    """Concurrent requests."""
    tokens_per_day: int | None = attrs.field(default=None, validator=_check_limit)
    """Tokens, prompt and answer, in a day (UTC)."""
    tokens_per_month: int | None = attrs.field(default=None, validator=_check_limit)
    """Tokens, prompt and answer, in a month (UTC)."""


@attrs.frozen
class APIKey:
    """A key as the store holds it: its name, rights and end, never its secret.

    Raises:
        WrongValue: no key may have this name, pattern or group.

    """

    id: str
    name: str = attrs.field(validator=_check_name)
    models: tuple[str, ...] = attrs.field(default=("*",), validator=_check_models)
    endpoints: frozenset[str] = attrs.field(default=DEFAULT_GROUPS, validator=_check_endpoints)
    created_at: datetime = attrs.field(factory=utc_now)
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    limits: KeyLimits = KeyLimits()
    user_header: str | None = attrs.field(default=None, validator=_check_user_header)
    """The header in which a front end names its end user, in lower case."""
    aliases: Aliases = attrs.field(default=NO_ALIASES, validator=_check_aliases)
    """Its own, which come before those of the settings."""

    def is_active(self, now: datetime) -> bool:
        """Return whether the key grants access at this moment."""
        return self.status(now) == "active"

    def status(self, now: datetime) -> str:
        """Return `active`, `expired` or `revoked`."""
        if self.revoked_at is not None:
            return "revoked"
        if self.expires_at is not None and self.expires_at <= now:
            return "expired"
        return "active"

    def principal(self) -> Principal:
        """Return the principal that presents this key."""
        rights = (self.models, self.endpoints, self.limits)
        return Principal(self.id, self.name, *rights, self.user_header, self.aliases)


@attrs.frozen
class Principal:
    """The holder of a key, as a request acts for it, with its rights."""

    key_id: str
    key_name: str
    models: tuple[str, ...]
    endpoints: frozenset[str]
    limits: KeyLimits = KeyLimits()
    user_header: str | None = None
    """The header that names the end user."""
    aliases: Aliases = NO_ALIASES
    """Its own aliases."""

    def may_use(self, name: ModelName) -> bool:
        """Return whether one of the key's patterns covers this model."""
        return cover_model(self.models, name)

    def may_use_alias(self, name: ModelName) -> bool:
        """Return whether one of the key's patterns covers an alias, by the name that is asked."""
        return cover_alias(self.models, name)

    def may_search(self) -> bool:
        """Return whether the key may use Ollama's web search, which its cloud answers."""
        return cover_cloud(self.models)

    def may_call(self, group: str) -> bool:
        """Return whether the key has this endpoint group."""
        return group in self.endpoints
