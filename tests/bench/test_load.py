from __future__ import annotations

import pytest

from tests.bench.load import read
from tests.bench.measure import percentile
from tests.bench.tree import pids
from tests.bench.upstream import SCRIPTS, Script

STREAMS = [scripts["pace:20"] for scripts in SCRIPTS.values()]


def stream(script: Script) -> bytes:
    """Three chunks and the end."""
    return script.head + script.chunk * 3 + script.last


@pytest.mark.parametrize("script", STREAMS)
@pytest.mark.parametrize("size", [1, 7, 100, 10_000])
def test_a_stream_is_read_from_any_pieces(script: Script, size: int) -> None:
    """Chunks are lines that are not empty, each at the time of its last byte."""
    data = stream(script)
    parts = [data[start : start + size] for start in range(0, len(data), size)]
    times = [float(number) for number in range(len(parts))]

    seen = read(0.0, parts, times)

    first = len(script.head + script.chunk) - len(b"\r\n")
    lines = script.last.count(b"\n\n") or 1
    assert (seen.is_whole, seen.chunks) == (True, 3 + lines)
    # An event ends with an empty line, which may come in a later read than the event.
    assert seen.first in {float((first - 1) // size), float((first - 2) // size)}


@pytest.mark.parametrize("script", STREAMS)
def test_a_stream_without_its_end_is_an_error(script: Script) -> None:
    """Neither the end of the connection nor the end of the framing completes a stream."""
    data = script.head + script.chunk * 3

    assert not read(0.0, [data], [1.0]).is_whole
    assert not read(0.0, [data + b"0\r\n\r\n"], [1.0]).is_whole


def test_a_refusal_is_an_error() -> None:
    """Only a 200 is complete."""
    whole = STREAMS[0].whole

    assert read(0.0, [whole], [1.0]).is_whole
    assert not read(0.0, [whole.replace(b"200 OK", b"503 No", 1)], [1.0]).is_whole
    assert not read(0.0, [whole[:-1]], [1.0]).is_whole
    assert not read(0.0, [], []).is_whole


def test_a_percentile_is_a_value_that_was_seen() -> None:
    """The highest percentile is the highest value."""
    assert [percentile([3, 1, 2], percent) for percent in (0, 50, 99, 100)] == [1, 2, 3, 3]


def test_a_process_that_is_gone_has_no_tree() -> None:
    """A process may end while it is read, and that raises nothing."""
    assert pids(2**22 + 1) == [2**22 + 1]
