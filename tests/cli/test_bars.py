"""The bars of `audit show`."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from ollama_gateway.cli.audit.bars import BLOCKS, PLAIN, SHORTEST, attempt_bars

MOMENTS = st.none() | st.floats(0, 2**63) | st.integers(0, 2**63 - 1)
ATTEMPTS = st.fixed_dictionaries(
    {
        "backend": st.none() | st.text(),
        "started_ms": MOMENTS,
        "hedge": st.none() | st.booleans(),
        "first_chunk_ms": MOMENTS,
        "ended_ms": MOMENTS,
        "reason": st.none() | st.text(),
    }
)


def attempt(backend: str, started: float, **more: Any) -> dict[str, Any]:
    """Return the document of an attempt."""
    names = ("hedge", "first_chunk_ms", "ended_ms", "reason")
    return {"backend": backend, "started_ms": started, **dict.fromkeys(names), **more}


def drawn(*attempts: dict[str, Any], took: float = 1000) -> str:
    """Return the bars of a request of one second on a terminal of 80 columns."""
    found = attempt_bars({"attempts": list(attempts), "duration_ms": took}, 80, BLOCKS)
    assert all(cell_len(line) <= 80 for line in found)
    return "\n".join(found)


def test_hedges_stand_below_each_other() -> None:
    """Each bar begins and ends where its attempt did, and turns at the first chunk."""
    assert (
        drawn(
            attempt("gpu-1", 0, ended_ms=500, reason="overtaken"),
            attempt("gpu-2", 250, hedge=True, first_chunk_ms=500),
        )
        == """\
               0                                              1,000 ms
gpu-1         |▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒                           | too slow
gpu-2 (hedge) |              ▒▒▒▒▒▒▒▒▒▒▒▒▒▒███████████████████████████| answered"""
    )


def test_a_failed_attempt_has_at_least_one_mark() -> None:
    """So has one of an older record, whose end is not known."""
    for more in ({"ended_ms": 0.1}, {}):
        shown = drawn(attempt("a", 0, reason="status_500", **more))
        assert shown.splitlines()[1].startswith("a |▒   ")
        assert shown.endswith("| failed")


def test_a_long_name_has_a_line_of_its_own() -> None:
    """No name is cut, and the bars stay below each other."""
    name = "gpu-rack-4.dc-frankfurt.example.internal"
    lines = drawn(attempt(name, 0, first_chunk_ms=10), attempt("b", 0, ended_ms=5)).splitlines()

    assert lines[1] == name
    assert lines[2].index("|") == lines[3].index("|")


@pytest.mark.parametrize("took", [0, None])
def test_nothing_is_drawn_of_nothing(took: float | None) -> None:
    """Requests that reached no backend, or took no time that is known, have no bars."""
    assert attempt_bars({"attempts": [], "duration_ms": 5}, 80, PLAIN) == []
    assert attempt_bars({"attempts": [attempt("a", 0)], "duration_ms": took}, 80, PLAIN) == []


@given(st.lists(ATTEMPTS, max_size=4), MOMENTS, st.integers(1, 200))
def test_any_record_can_be_drawn(attempts: list[Any], took: float | None, width: int) -> None:
    """A file holds anything: bars stay within their axis, and no name commands a terminal."""
    document = {"attempts": attempts, "duration_ms": took}
    for line in attempt_bars(document, width, PLAIN):
        assert line.isprintable()
        bar = line.rpartition("|")[0].rpartition("|")[2]
        assert len(bar) <= max(width, SHORTEST)
