"""A store of keys, and the rules of changing them.

`gatewayctl keys` changes keys in a store, and gateways look them up. `SQLiteKeys` and
`PostgresKeys` bring the statements, each a method without decisions. The rules: a store gets a
key's text only to hash it, and never stores it; every change is one transaction, and changes are
serialised, so whatever a change has read still holds when it writes.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Final, Unpack

import attrs

from ollama_gateway.keys.key import (
    DEFAULT_GROUPS,
    PREFIX,
    APIKey,
    KeyChanged,
    KeyLimits,
    KeyRefused,
    KeyTaken,
    NoSuchKey,
    digest_of,
    generate,
    new_id,
    utc_now,
)
from ollama_gateway.keys.statements import KeyStatements
from ollama_gateway.keys.store import Changes, ImportedKey, KeySecret, MergedKeys, StoredKey
from ollama_gateway.models.aliases import NO_ALIASES, Aliases
from ollama_gateway.suggestions import did_you_mean

NAMES: Final = (
    "id",
    "name",
    "models",
    "endpoints",
    "created_at",
    "expires_at",
    "revoked_at",
    "user_header",
    "aliases",
    "requests_per_minute",
    "concurrent_requests",
    "tokens_per_day",
    "tokens_per_month",
)
"""The columns of a key, in the order of its rows."""
LISTED: Final = ", ".join(NAMES)
COLUMNS: Final = ", ".join(f"keys.{name}" for name in NAMES)


class KeyStore(KeyStatements):
    """A store of keys; methods may block, and only one thread at a time may call them.

    Every method raises `StoreError` if the store cannot be used, and `KeyRefused` if the operation
    is not allowed. A key is named by its id, or by its name if only one unrevoked key (or, without
    one, only one revoked key) has it. `now` is the wall clock.
    """

    def __init__(self, now: Callable[[], datetime] = utc_now) -> None:
        self._now = now

    def create(
        self,
        name: str,
        models: tuple[str, ...] = ("*",),
        endpoints: frozenset[str] = DEFAULT_GROUPS,
        expires_at: datetime | None = None,
        limits: KeyLimits = KeyLimits(),  # noqa: B008 - frozen
        user_header: str | None = None,
        aliases: Aliases = NO_ALIASES,
        *,
        key_id: str | None = None,
    ) -> tuple[APIKey, str]:
        """Make a key, with a new id unless one is given; return it and its text.

        The text is stored nowhere.
        """
        secret = generate(key_id)
        rights = {"models": models, "endpoints": endpoints, "limits": limits}
        times = {"created_at": self._now(), "expires_at": expires_at}
        own = {"user_header": user_header, "aliases": aliases}
        key = APIKey(secret.id, name, **rights, **times, **own)  # type: ignore[arg-type]
        with self._change():
            if key_id is not None and self._by_id(key_id):
                raise KeyTaken(f"key {key_id} exists")
            self._refuse_taken(name)
            self._insert(key)
            self._insert_secret(KeySecret(digest_of(secret.text), key.id))
        return key, secret.text

    def add_imported(self, entries: Sequence[ImportedKey]) -> tuple[APIKey, ...]:
        """Add keys made elsewhere, all or none; the error names every wrong line."""
        now = self._now()
        given: list[Changes] = [{**entry.rights, "name": entry.name} for entry in entries]
        keys = tuple(APIKey(new_id(), created_at=now, **one) for one in given)
        with self._change():
            problems = [problem for entry in entries for problem in self._problems(entry)]
            if problems:
                raise KeyRefused("\n".join(problems))
            for key, entry in zip(keys, entries, strict=True):
                self._insert(key)
                self._insert_secret(KeySecret(digest_of(entry.text), key.id))
        return keys

    def list(self) -> tuple[APIKey, ...]:
        """Return all keys, revoked ones too, oldest first."""
        with self._reading():
            return self._all()

    def get(self, wanted: str) -> APIKey:
        """Return one key, by id or name."""
        with self._reading():
            return self._get(wanted)

    def update(self, wanted: str, **changes: Unpack[Changes]) -> APIKey:
        """Change a key that is not revoked, and return it."""
        with self._change():
            before = self._get(wanted)
            return self._updated(before, attrs.evolve(before, **changes))

    def replace(self, pairs: Sequence[tuple[APIKey, APIKey]]) -> None:
        """Change keys from what they were to what they are to be, all or none.

        Raises KeyChanged if one is no longer what it was.
        """
        with self._change():
            for before, after in pairs:
                if self._by_id(before.id) != (before,):
                    raise KeyChanged(f"key {before.id} has changed meanwhile")
                self._updated(before, after)

    def rotate(self, wanted: str, grace: timedelta = timedelta(0)) -> tuple[APIKey, str]:
        """Give an active key a new text; the old texts expire after `grace`, by default at once."""
        with self._change():
            key, now = self._get(wanted), self._now()
            if not key.is_active(now):
                raise KeyRefused(f"key {key.id} is {key.status(now)}: nothing to rotate")
            secret = generate(key.id)
            self._end_secrets(key, now + grace)
            self._forget_secrets(now)
            self._insert_secret(KeySecret(digest_of(secret.text), key.id))
        return key, secret.text

    def revoke(self, wanted: str) -> APIKey:
        """Revoke a key for good; a revoked key stays as it is."""
        with self._change():
            return self._revoked(self._get(wanted), self._now())

    def delete(self, wanted: str) -> APIKey:
        """Delete a key that grants no access any more."""
        with self._change():
            key = self._get(wanted)
            if key.is_active(self._now()):
                raise KeyRefused(f"key {key.id} is active: revoke it first")
            self._delete(key)
        return key

    def find(self, digests: Sequence[str]) -> Sequence[APIKey | None]:
        """Look up unexpired digests in one query; the caller checks whether the key is active."""
        with self._reading():
            found = {digest: (digest, key) for digest, key in self._find(digests, self._now())}
        return [_checked(digest, found.get(digest)) for digest in digests]

    def count_active(self) -> int:
        """Count the active keys."""
        now = self._now()
        return sum(key.is_active(now) for key in self.list())

    def stored(self) -> tuple[StoredKey, ...]:
        """Return all keys with their digests, to copy them to another store."""
        with self._reading():
            return self._stored()

    def merge(self, others: Sequence[StoredKey]) -> MergedKeys:
        """Add the keys of another store, all or none; keys that exist here stay as they are.

        Of an existing key only a revocation is carried over.
        """
        with self._change():
            here = {stored.key.id: stored for stored in self._stored()}
            new = [other for other in others if other.key.id not in here]
            self._add(new, here)
            known = [(here[other.key.id], other) for other in others if other.key.id in here]
            ended = [pair for pair in known if _is_revoked_there(*pair)]
            for mine, other in ended:
                self._revoked(mine.key, other.key.revoked_at or self._now())
        same = [pair for pair in known if pair[0] == pair[1]]
        different = [pair for pair in known if pair not in ended and pair not in same]
        added = tuple(other.key for other in new)
        return MergedKeys(
            added, *(tuple(mine.key for mine, _ in p) for p in (ended, same, different))
        )

    def _add(self, new: Sequence[StoredKey], here: dict[str, StoredKey]) -> None:
        if problems := [p for other in new for p in self._clashes(other, here)]:
            raise KeyRefused("\n".join(problems))
        for other in new:
            self._insert(other.key)
            for secret in other.secrets:
                self._insert_secret(secret)

    def _stored(self) -> tuple[StoredKey, ...]:
        secrets: dict[str, set[KeySecret]] = {}
        for secret in self._secrets():
            secrets.setdefault(secret.key_id, set()).add(secret)
        return tuple(StoredKey(key, frozenset(secrets.get(key.id, ()))) for key in self._all())

    def _updated(self, before: APIKey, after: APIKey) -> APIKey:
        if before.revoked_at is not None:
            raise KeyRefused(f"key {before.id} is revoked: create a new one")
        if after.name != before.name:
            self._refuse_taken(after.name)
        self._write(after)
        return after

    def _revoked(self, key: APIKey, when: datetime) -> APIKey:
        if key.revoked_at is None:
            key = attrs.evolve(key, revoked_at=when)
            self._write(key)
        return key

    def _get(self, wanted: str) -> APIKey:
        # An id wins over an equal name: a name cannot hide another key.
        wanted = (
            wanted if wanted.isprintable() else ""
        )  # no such name exists, and SQL may not take the text
        found = self._by_id(wanted) or self._by_name(wanted)
        best = [key for key in found if key.revoked_at is None] or found
        if not best:
            # The operator may have given a key's text instead of its id: do not repeat it.
            if wanted.startswith(PREFIX):
                raise NoSuchKey("no key with this text: `gatewayctl keys list` shows them")
            near = did_you_mean(wanted, (key.name for key in self._all()))
            raise NoSuchKey(f"no key {wanted[:100]!r}{near}: `gatewayctl keys list` shows them")
        if len(best) > 1:
            ids = ", ".join(key.id for key in best)
            raise KeyRefused(f"several keys were named {wanted!r}: give one id ({ids})")
        return best[0]

    def _taker(self, name: str) -> APIKey | None:
        return next((key for key in self._by_name(name) if key.revoked_at is None), None)

    def _refuse_taken(self, name: str) -> None:
        if taker := self._taker(name):
            raise KeyTaken(f"name {name!r} is taken by key {taker.id}")

    def _problems(self, entry: ImportedKey) -> Iterator[str]:
        if self._taker(entry.name):
            yield f"line {entry.line}: a key of this name exists"  # the name may be a misplaced key
        if self._has_secret(digest_of(entry.text)):
            yield f"line {entry.line}: this key is in the store already"

    def _clashes(self, other: StoredKey, here: dict[str, StoredKey]) -> Iterator[str]:
        key = other.key
        if key.revoked_at is None and (taker := self._taker(key.name)):
            yield f"key {key.id}: its name {key.name!r} is taken by key {taker.id}"
        texts = {secret.digest for secret in other.secrets}
        for stored in here.values():
            if texts & {secret.digest for secret in stored.secrets}:
                yield f"key {key.id}: its text is in the store already, as key {stored.key.id}"


def _is_revoked_there(mine: StoredKey, other: StoredKey) -> bool:
    return mine.key.revoked_at is None and other.key.revoked_at is not None


def _checked(digest: str, found: tuple[str, APIKey] | None) -> APIKey | None:
    if found is None or not hmac.compare_digest(digest, found[0]):
        return None
    return found[1]
