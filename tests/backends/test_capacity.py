"""A backend's capacity, learned from streams, each given by its times and its chunks."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_gateway.backends.capacity import (
    LEAST_SHARE,
    MAX_LEARNED,
    MIN_CHUNKS,
    REMEMBERED_STREAMS,
    LearnedCapacity,
    StreamStart,
)


@attrs.frozen
class Stream:
    """One stream; seconds from the first chunk to the last."""

    start: float
    seconds: float
    chunks: int


def learned(streams: Sequence[Stream], known: LearnedCapacity | None = None) -> int:
    """Let the streams pass in the order of time; return the capacity then."""
    capacity = known or LearnedCapacity()
    starts: dict[int, StreamStart] = {}
    moments = [(one.start, 0, place) for place, one in enumerate(streams)]
    moments += [(one.start + one.seconds, 1, place) for place, one in enumerate(streams)]
    for now, ends, place in sorted(moments):
        if ends:
            capacity.end(starts.pop(place), now, streams[place].chunks)
        else:
            starts[place] = capacity.begin(now)
    return capacity.value


def together(count: int, pace: float, start: float = 0, seconds: float = 10) -> list[Stream]:
    """Return streams that run at once, each with this pace in chunks a second."""
    return [Stream(start, seconds, round(pace * seconds)) for _ in range(count)]


def test_it_begins_with_one() -> None:
    """Before any stream has ended, one at a time is assumed."""
    assert learned([]) == 1


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_streams_that_progress_together_raise_it(count: int) -> None:
    """As many as run together without slowing are the capacity."""
    assert learned([*together(1, 50), *together(count, 40, start=20)]) == count


def test_streams_one_after_the_other_do_not() -> None:
    """A backend with one slot stays at 1, whatever the number of requests that wait for it."""
    assert learned([Stream(10 * place, 10, 500) for place in range(20)]) == 1


def test_streams_that_slow_each_other_do_not() -> None:
    """Two streams that each lose more than a quarter of the pace of one count as too many."""
    assert learned([*together(1, 100), *together(2, 74, start=20)]) == 1
    assert learned([*together(1, 100), *together(2, 76, start=20)]) == 2


def test_it_is_found_out_when_one_alone_was_seen_late() -> None:
    """Streams that slowed each other from the start are known to once one has run alone."""
    capacity = LearnedCapacity()

    assert learned(together(4, 30), capacity) == 4
    assert learned(together(1, 100, start=20), capacity) == 1


def test_more_than_four_tell_nothing() -> None:
    """The capacity never rises above four, and forty streams that crawl do not lower it."""
    assert learned([*together(1, 50), *together(4, 50, 20), *together(40, 2, 40)]) == 4
    assert learned([*together(1, 50), *together(40, 50, 20)]) == 1


def test_a_single_odd_stream_changes_nothing() -> None:
    """The median of the last streams decides, not one of them."""
    usual = [*together(1, 50), *together(1, 50, 20), *together(1, 50, 40), *together(2, 45, 60)]

    assert learned([*usual, *together(1, 1e6, 80)]) == 2


def test_short_and_cut_streams_tell_nothing() -> None:
    """A stream of few chunks, without a length, or with an unknown end is not measured."""
    capacity = LearnedCapacity()
    few = [Stream(0, 10, MIN_CHUNKS - 1)] * 2

    assert learned(few, capacity) == 1
    assert learned([Stream(20, 0, 500)] * 2, capacity) == 1
    assert learned([Stream(40, 10, 0)] * 2, capacity) == 1
    assert capacity._paces == {}


STREAM = st.builds(
    Stream,
    st.floats(0, 1000),
    st.floats(0, 1e6) | st.floats(0, 1e-300),
    st.integers(0, 10**15) | st.integers(0, 100),
)


@given(st.lists(STREAM, max_size=60))
def test_it_is_bounded(streams: list[Stream]) -> None:
    """Any streams, absurd ones too, give a figure from 1 to 4, and little is remembered."""
    capacity = LearnedCapacity()

    assert 1 <= learned(streams, capacity) <= MAX_LEARNED
    assert sum(map(len, capacity._paces.values())) <= MAX_LEARNED * REMEMBERED_STREAMS


@given(st.integers(2, MAX_LEARNED), st.floats(10, 1000), st.floats(0.01, 1), st.floats(0.01, 1))
def test_it_rises_with_the_pace_of_streams_together(
    count: int, alone: float, share: float, other: float
) -> None:
    """Streams that keep more of their pace never give a smaller capacity."""
    lower, higher = sorted([share, other])
    found = [
        learned([*together(1, alone, seconds=100), *together(count, alone * one, 200, 100)])
        for one in (lower, higher)
    ]

    assert found == sorted(found)
    assert found[0] == (count if lower >= LEAST_SHARE + 0.01 else found[0])
