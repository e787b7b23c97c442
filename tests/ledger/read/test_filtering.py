"""Which records a filter matches."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from ollama_gateway.ledger.read.filtering import Filter, TimeRange
from tests.ledger.audit_logs import all_records, ended, written
from tests.ledger.records import BEGAN


@pytest.mark.parametrize(
    ("wanted", "is_held"),
    [
        (Filter(), True),
        (Filter(key="id"), True),
        (Filter(key="name"), True),
        (Filter(key="nam"), False),
        (Filter(model="m1"), True),
        (Filter(model="M1:Latest"), True),
        (Filter(model="m1:8b"), False),
        (Filter(model="no name at all"), False),
        (Filter(backend="b"), True),
        (Filter(backend="a"), False),
        (Filter(outcome="refused"), True),
        (Filter(outcome="completed"), False),
        (Filter(reason="rate"), True),
        (Filter(reason="budget"), False),
        (Filter(end_user="eve"), True),
        (Filter(end_user="bob"), False),
        (Filter(endpoint="/api/chat"), True),
        (Filter(endpoint="/api/embed"), False),
        (Filter(key="name", model="m1", backend="a"), False),
        (Filter(TimeRange(since=BEGAN)), True),
        (Filter(TimeRange(until=BEGAN)), False),
        (Filter(TimeRange(since=BEGAN + timedelta(microseconds=1))), False),
    ],
)
def test_what_is_wanted(tmp_path: Path, wanted: Filter, *, is_held: bool) -> None:
    """All values given must agree."""
    fields: dict[str, Any] = {
        "backend": "b",
        "outcome": "refused",
        "reason": "rate",
        "end_user": "eve",
    }
    written(tmp_path, [ended("a", **fields)])
    [record] = all_records(tmp_path)

    assert wanted.matches(record) is is_held


def test_a_request_without_a_model(tmp_path: Path) -> None:
    """A request with an unreadable body has no model."""
    written(tmp_path, [ended("a", model=None)])
    [record] = all_records(tmp_path)

    assert Filter().matches(record)
    assert not Filter(model="m1").matches(record)
