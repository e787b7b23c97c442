"""CVE-2026-42208: another gateway put the bearer token of a request into the text of its query.

Anyone could read and change the database with the keys of all users, before any check. Here a token
is hashed before a store sees it, and stores take values as parameters alone.
"""

from __future__ import annotations

from typing import Final

import pytest
import trio.testing

from ollama_gateway.errors import Unauthorized
from ollama_gateway.keys.cache import KeyCache
from ollama_gateway.keys.key import MIN_IMPORTED, KeyRefused, digest_of, generate
from ollama_gateway.keys.sql import KeyStore
from ollama_gateway.keys.store import ImportedKey
from ollama_gateway.storage.batcher import Batcher, in_place

PAYLOADS: Final = (
    "' OR '1'='1",
    "' OR '1'='1' -- to any length",
    "' OR 1=1; DROP TABLE secrets; --",
    "'; DELETE FROM gateway_keys; --",
    "'; UPDATE keys SET revoked_at = NULL; --",
    "' UNION SELECT digest, digest, id FROM secrets, keys --",
    "\\'; SELECT pg_sleep(60); --",
    "'||(SELECT digest FROM gateway_key_secrets LIMIT 1)||'",
    '"]) OR 1=1 --',
    '["*"], null) --',
    "$1", "%s", "%(digest)s", "?", ":digest", "{}", "%", "_" * MIN_IMPORTED,
    "\x00' OR '1'='1", "\ufffd' OR ''='", "\u02bc OR \u02bc1\u02bc=\u02bc1",
)  # fmt: skip
"""Texts that end a literal of SQL, fill a placeholder of a driver, or match anything."""


def as_tokens(payload: str, known: str) -> list[str]:
    """Return the tokens that carry a payload: alone, and as parts of one that looks like a key."""
    begin, secret = known[:13], known[13:]
    return [payload, begin + payload, begin + payload + secret, known + payload, payload + known]


async def test_cve_2026_42208_a_bearer_token_is_no_sql(
    store: KeyStore, autojump_clock: trio.testing.MockClock
) -> None:
    """It is refused like any unknown key, and the store is as it was."""
    key, text = store.create("alice")
    store.create("bob")
    store.revoke("bob")
    before = store.stored()
    async with Batcher(store.find, runner=in_place).opened() as batcher:
        cache = KeyCache(batcher.submit)
        for token in (token for payload in PAYLOADS for token in as_tokens(payload, text)):
            with pytest.raises(Unauthorized):
                await cache.identify(token)
        assert (await cache.identify(text)).key_id == key.id

    assert store.stored() == before


def test_cve_2026_42208_a_store_takes_texts_as_values(store: KeyStore) -> None:
    """Even a text that was not hashed, or that names a key, is compared and never run."""
    store.create("alice")
    before = store.stored()
    for payload in PAYLOADS:
        if payload.isprintable():  # as a digest is; PostgreSQL takes no other text
            assert list(store.find([payload, digest_of(payload)])) == [None, None]
        for call in (store.get, store.revoke, store.rotate):
            with pytest.raises(KeyRefused, match="no key"):
                call(payload)

    assert store.stored() == before


def test_cve_2026_42208_a_key_that_looks_like_sql_is_a_key(store: KeyStore) -> None:
    """An imported key may have any visible character, and lets in who has exactly that text."""
    sql = "'OR'1'='1';DROP/**/TABLE/**/secrets;--"
    [imported] = store.add_imported([ImportedKey("odd", sql, 1)])
    store.create("alice")

    assert list(store.find([digest_of(sql), digest_of(generate().text)])) == [imported, None]
    assert [stored.key.name for stored in store.stored()] == ["odd", "alice"]
