"""A name with two digests is logged when it begins, changes and ends, not at each poll."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from structlog.testing import capture_logs
from structlog.typing import EventDict

from ollama_gateway.backends.backends import Backends, ModelDown, ModelUnknown
from ollama_gateway.wire.names import ModelName
from tests.backends.test_backends import backends
from tests.backends.test_catalog import entry, listing

M = ModelName.parse("m:1")


@pytest.fixture
def logged() -> Iterator[list[EventDict]]:
    """Capture the log lines about digests."""
    with capture_logs() as entries:
        yield entries


def new_lines(logged: list[EventDict]) -> list[EventDict]:
    """Return the lines about digests since the last call."""
    found = [line for line in logged if "digests" in line["event"]]
    logged.clear()
    return found


def poll(known: Backends, **digests: str) -> None:
    """Poll backends that list `m:1` with these digests."""
    for backend in known.all:
        if backend.name in digests:
            known.polled(backend, listing(entry("m:1", digest=digests[backend.name] * 64)), 0)


def test_a_mismatch_is_logged_once_per_change(logged: list[EventDict]) -> None:
    """A mismatch begins, lasts over many polls, changes, and ends: three lines."""
    known = backends(1, 1)
    poll(known, a="0", b="0")
    assert new_lines(logged) == []

    poll(known, b="1")
    (began,) = new_lines(logged)
    assert began["log_level"] == "warning"
    assert began["digests"] == {"a": "0" * 12, "b": "1" * 12}
    for _ in range(5):
        poll(known, a="0", b="1")
    assert new_lines(logged) == []

    poll(known, b="2")
    assert len(new_lines(logged)) == 1
    poll(known, a="2")
    assert [line["event"] for line in new_lines(logged)] == ["digests differ no more"]


def test_a_model_that_was_deleted_is_forgotten_where_nobody_lists_it() -> None:
    """A deleted model is unknown, unless a backend that is down lists it: then it is an outage."""
    known = backends(1, 1)
    poll(known, a="0", b="0")
    a, b = known.all
    known.polled(a, listing(), 1)
    for _ in range(3):
        known.failed(b, "no answer")
    with pytest.raises(ModelDown):
        known.check(M, 2)

    known.polled(b, listing(), 3)
    with pytest.raises(ModelUnknown):
        known.check(M, 4)
