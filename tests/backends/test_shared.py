"""The catalog in Redis: one process writes it, another starts from it."""

from __future__ import annotations

from collections.abc import Iterator

import anyio
import httpx
import pytest
import redis
import structlog.testing
from trio.testing import MockClock

from ollama_gateway.backends.backend import Backend
from ollama_gateway.backends.backends import Backends
from ollama_gateway.backends.shared import CATALOG_KEY, CatalogCopier, SharedCatalog
from ollama_gateway.services import running
from ollama_gateway.storage.redis import RedisFailed
from ollama_gateway.storage.redis_faults import RedisFault
from tests.backends.asking import UNUSED
from tests.backends.test_catalog import entry, listing
from tests.smoke.fleet import free_port
from tests.support.redis_server import redis_server

URLS = {"a": "http://a", "b": "http://b"}


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A real Redis."""
    with redis_server() as started:
        yield started


def test_what_is_written_is_read(url: str) -> None:
    """Models, loaded models and version survive Redis; the size counts models."""
    shared = SharedCatalog(url)
    found = listing(entry("m:1"), entry("n:1"), version="0.9")
    shared.write(URLS, {"a": found, "b": listing(entry("m:1"))})

    copy = shared.read(URLS)

    assert copy is not None
    assert (copy.listings["a"], copy.size) == (found, 2)
    assert copy.age >= 0


def test_a_backend_that_moved_is_left_out(url: str) -> None:
    """A copy counts only for a backend with the same URL."""
    shared = SharedCatalog(url)
    shared.write(URLS, {"a": listing(entry("m:1")), "b": listing(entry("n:1"))})

    copy = shared.read({"a": "http://elsewhere", "b": "http://b"})

    assert copy is not None
    assert list(copy.listings) == ["b"]


@pytest.mark.parametrize(
    "field",
    [b"", b"null", b"[]", b"{", b"\xff", b'{"url":"http://a","at":"x"}', b"[" * 100_000],
)
def test_garbage_in_redis_is_no_copy(url: str, field: bytes) -> None:
    """Fields that no gateway has written are skipped."""
    with redis.Redis.from_url(url) as client:
        client.delete(CATALOG_KEY)
        client.hset(CATALOG_KEY, "a", field)

    assert SharedCatalog(url).read(URLS) is None


def test_the_error_of_a_redis_that_is_away_is_its_cause() -> None:
    """It contains neither address nor library text."""
    shared = SharedCatalog(f"redis://:secret@127.0.0.1:{free_port()}/0")

    with pytest.raises(RedisFailed) as caught:
        shared.read(URLS)
    with pytest.raises(RedisFailed):
        shared.write(URLS, {"a": listing()})

    assert (caught.value.fault, str(caught.value)) == (RedisFault.REFUSED, RedisFault.REFUSED.line)


async def test_a_fresh_process_starts_from_the_copy(url: str) -> None:
    """A process uses the copy before its first poll; without Redis it starts without one."""
    SharedCatalog(url).write(URLS, {"a": listing(entry("m:1"))})
    for where, models in ((url, 1), (f"redis://127.0.0.1:{free_port()}/0", 0)):
        backends = Backends.of([Backend("a", httpx.URL("http://a"), UNUSED)])

        await CatalogCopier(SharedCatalog(where), backends).restore()

        assert len(backends.catalog.models) == models


async def test_why_the_copy_fails_is_said(autojump_clock: MockClock, url: str) -> None:
    """The log names the cause once, and says when the copy works again."""
    backends = Backends.of([Backend("a", httpx.URL("http://a"), UNUSED)])
    backends.polled(backends.all[0], listing(entry("m:1")), 0.0)
    copier = CatalogCopier(SharedCatalog(f"redis://127.0.0.1:{free_port()}/0"), backends)
    failures = []
    with structlog.testing.capture_logs() as lines:
        for _ in range(2):
            await copier.restore()
            failures.append(copier.failure)
        copier.shared = SharedCatalog(url)
        async with running(copier.watch):
            while copier.failure is not None:  # noqa: ASYNC110 - the time is virtual
                await anyio.sleep(1)
    assert failures == [RedisFault.REFUSED, RedisFault.REFUSED]
    assert [(line["event"], line.get("cause")) for line in lines] == [
        ("catalog copy failing", "refused"),
        ("catalog copy works again", None),
    ]
